#ifndef KOINON_BASE_VERSION_H_
#define KOINON_BASE_VERSION_H_

#include "absl/strings/string_view.h"

namespace koinon {

// What this build is, and which protocol (docs/formats/wire.md) it speaks.
// Peers of another major version are refused; a larger minor version only adds.
inline constexpr absl::string_view kSoftwareVersion = "0.1.0";
inline constexpr int kProtocolMajor = 1;
inline constexpr int kProtocolMinor = 1;

}  // namespace koinon

#endif  // KOINON_BASE_VERSION_H_
