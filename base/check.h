#ifndef KOINON_BASE_CHECK_H_
#define KOINON_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

// Ends the process, saying where, unless `condition` holds. For our own bugs
// only: never for bytes from the network, the disk or an operator.
#define KOINON_CHECK(condition)                                             \
  do {                                                                      \
    if (!(condition)) {                                                     \
      std::fprintf(stderr, "%s:%d: check failed: %s\n", __FILE__, __LINE__, \
                   #condition);                                             \
      std::abort();                                                         \
    }                                                                       \
  } while (false)

#endif  // KOINON_BASE_CHECK_H_
