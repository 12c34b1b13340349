#ifndef KOINON_BASE_STATUS_MACROS_H_
#define KOINON_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

// The status macros of newer Abseil releases, under their names, because
// Debian's Abseil (20220623) has none.

// Evaluates `expr`, an absl::Status; returns it from the enclosing function
// unless it is OK.
#ifndef ABSL_RETURN_IF_ERROR
#define ABSL_RETURN_IF_ERROR(expr)                                      \
  do {                                                                  \
    if (::absl::Status koinon_status_ = (expr); !koinon_status_.ok()) { \
      return koinon_status_;                                            \
    }                                                                   \
  } while (false)
#endif

// Evaluates `expr`, an absl::StatusOr<T>; assigns its value to `lhs`, which may
// declare a variable, or returns its status from the enclosing function.
#ifndef ABSL_ASSIGN_OR_RETURN
#define ABSL_ASSIGN_OR_RETURN(lhs, expr)                                    \
  KOINON_ASSIGN_OR_RETURN_(KOINON_CONCAT_(koinon_statusor_, __LINE__), lhs, \
                           expr)
#define KOINON_ASSIGN_OR_RETURN_(statusor, lhs, expr)      \
  auto statusor = (expr);                                  \
  if (!statusor.ok()) return std::move(statusor).status(); \
  lhs = *std::move(statusor)
#define KOINON_CONCAT_(a, b) KOINON_CONCAT_INNER_(a, b)
#define KOINON_CONCAT_INNER_(a, b) a##b
#endif

#endif  // KOINON_BASE_STATUS_MACROS_H_
