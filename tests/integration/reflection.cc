#include "tests/integration/reflection.h"

#include <chrono>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpcpp/generic/generic_stub.h"

namespace koinon::testing {
namespace {

constexpr char kMethod[] =
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";

// One ServerReflectionRequest with this one field of text. The method is a
// stream, but one request and one reply look like a plain call on the wire.
absl::StatusOr<std::string> Ask(const std::shared_ptr<grpc::Channel>& channel,
                                int field, const std::string& text) {
  const auto byte = [](size_t value) {
    return std::string(1, static_cast<char>(value));
  };
  const grpc::Slice slice(
      absl::StrCat(byte(field << 3 | 2), byte(text.size()), text));
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(60));
  grpc::CompletionQueue queue;
  const auto call = stub.PrepareUnaryCall(&context, kMethod,
                                          grpc::ByteBuffer(&slice, 1), &queue);
  call->StartCall();
  grpc::ByteBuffer reply;
  grpc::Status status;
  call->Finish(&reply, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) {
    return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                        status.error_message());
  }
  std::vector<grpc::Slice> slices;
  if (!reply.Dump(&slices).ok()) return absl::DataLossError("no reply");
  std::string bytes;
  for (const grpc::Slice& part : slices) {
    bytes.append(reinterpret_cast<const char*>(part.begin()), part.size());
  }
  return bytes;
}

}  // namespace

absl::StatusOr<std::string> ReflectedServices(
    const std::shared_ptr<grpc::Channel>& channel) {
  constexpr int kListServices = 7;
  return Ask(channel, kListServices, "*");
}

absl::StatusOr<std::string> ReflectedFile(
    const std::shared_ptr<grpc::Channel>& channel, const std::string& symbol) {
  constexpr int kFileContainingSymbol = 4;
  return Ask(channel, kFileContainingSymbol, symbol);
}

}  // namespace koinon::testing
