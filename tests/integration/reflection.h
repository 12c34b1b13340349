#ifndef KOINON_TESTS_INTEGRATION_REFLECTION_H_
#define KOINON_TESTS_INTEGRATION_REFLECTION_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/grpcpp.h"

namespace koinon::testing {

// What a server says of itself through grpc.reflection.v1alpha, as serialised
// replies: the tests look for names in them. (Debian's gRPC serves reflection
// but ships no client for it.) The call's own error if it fails: UNIMPLEMENTED
// from a server without reflection.
absl::StatusOr<std::string> ReflectedServices(
    const std::shared_ptr<grpc::Channel>& channel);
// The file that defines `symbol`, such as a service's full name.
absl::StatusOr<std::string> ReflectedFile(
    const std::shared_ptr<grpc::Channel>& channel, const std::string& symbol);

}  // namespace koinon::testing

#endif  // KOINON_TESTS_INTEGRATION_REFLECTION_H_
