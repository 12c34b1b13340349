#ifndef KOINON_COORDINATOR_ROUND_EARLY_STOP_H_
#define KOINON_COORDINATOR_ROUND_EARLY_STOP_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "base/ids.h"
#include "proto/job.pb.h"

namespace koinon::coordinator {

// The federated metric of one evaluation: the workers' values of `name`
// ("accuracy" or "loss"), weighted by their examples. Nothing if no worker with
// at least one example has it. Summed in ascending order of worker, so that the
// same answers give the same bits. Pure.
std::optional<double> FederatedMetric(
    const std::map<WorkerId, v1::Metrics>& metrics, const std::string& name);

// Why a job with these rules stops after the last round in `history` (round ->
// federated metric); empty if it goes on. A NaN neither reaches a threshold nor
// improves on anything. Pure.
std::string EarlyStopReason(const v1::StopSpec& stop,
                            const std::map<int64_t, double>& history);

}  // namespace koinon::coordinator

#endif  // KOINON_COORDINATOR_ROUND_EARLY_STOP_H_
