#ifndef KOINON_BASE_DESCRIPTOR_LIMIT_H_
#define KOINON_BASE_DESCRIPTOR_LIMIT_H_

#include <cstddef>

namespace koinon {

// Lets this process, and those that it starts from then on, open as many
// descriptors as the system allows it (RLIMIT_NOFILE's hard limit). The usual
// soft limit of 1,024 is for programs that call select; one connection of a
// fleet is a descriptor. For main, before anything is opened. Returns how many
// there may be now: as many as before if the system refuses.
size_t RaiseDescriptorLimit();

}  // namespace koinon

#endif  // KOINON_BASE_DESCRIPTOR_LIMIT_H_
