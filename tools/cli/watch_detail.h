#ifndef KOINON_TOOLS_CLI_WATCH_DETAIL_H_
#define KOINON_TOOLS_CLI_WATCH_DETAIL_H_

#include <cstddef>
#include <string>
#include <vector>

#include "proto/job.pb.h"

namespace koinon::cli {

// Updates, and workers that were left out, that are listed of one round; a
// report of thousands is for programs (--json).
inline constexpr size_t kDetailRows = 32;

// What a round's rule decided: a line on the rule, a table with a row for each
// update and a column for each thing that the rule says of any of them; a line
// on how the base version came to the workers; one for each site of several
// ranks, on what these exchanged and what of it training waited for; and one
// for each worker that was left out of the round. At most `max_rows` of each,
// with the number of those that are not shown. Empty for a report with none of
// these (an older coordinator's). Lines without newlines, printable. Pure.
//
//   multi_krum of nearest_neighbour_mixing, then fedadam; f 1 of 5 updates
//     worker  coefficient  norm  score  selected
//     w1              0.5  1.25    3.5  yes
//   base version: 3.0 MiB from peers, 1.0 MiB from the coordinator (75.0 % ...)
//   ranks of w1: 4 ranks on 2 nodes, 1.5 GiB in 0.40 s (4.03 GB/s); waited for
//   0.10 s, 75.0 % hidden, 2.0 % of the round
std::vector<std::string> DetailLines(const v1::RoundReport& report,
                                     size_t max_rows = kDetailRows);

}  // namespace koinon::cli

#endif  // KOINON_TOOLS_CLI_WATCH_DETAIL_H_
