"""C++ code for protobuf messages and gRPC services, made by Debian's protoc."""

def koinon_proto_library(name, srcs, deps = [], services = False, visibility = None):
    """Compiles `srcs` (all .proto files of one package) to one cc_library.

    Args:
      name: the cc_library's name.
      srcs: .proto files in this package.
      deps: other koinon_proto_library targets that `srcs` import.
      services: whether to also generate gRPC stubs (*.grpc.pb.h).
      visibility: as everywhere.
    """
    stems = [src[:-len(".proto")] for src in srcs]
    headers = [s + ".pb.h" for s in stems]
    sources = [s + ".pb.cc" for s in stems]
    plugin = ""
    if services:
        headers += [s + ".grpc.pb.h" for s in stems]
        sources += [s + ".grpc.pb.cc" for s in stems]
        plugin = " --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin --grpc_out=$(GENDIR)"
    native.filegroup(
        name = name + "_protos",
        srcs = srcs + [d + "_protos" for d in deps],
        visibility = visibility,
    )
    native.genrule(
        name = name + "_gen",
        srcs = [":" + name + "_protos"],
        outs = headers + sources,
        cmd = "/usr/bin/protoc -I. --cpp_out=$(GENDIR)" + plugin + " " +
              " ".join([native.package_name() + "/" + s for s in srcs]),
    )
    native.cc_library(
        name = name,
        srcs = sources,
        hdrs = headers,
        # Generated code is not held to our warnings.
        copts = ["-w"],
        visibility = visibility,
        deps = deps + ["//third_party/protobuf"] + (["//third_party/grpc"] if services else []),
    )
