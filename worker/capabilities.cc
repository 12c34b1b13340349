#include "worker/capabilities.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "kernels/bfloat16.h"
#include "kernels/graph/model_graph.h"
#include "worker/train/precision.h"

namespace koinon::worker {
namespace {

// Those that decide how fast numbers go. The compiler's name for each comes
// first, and has to be a literal.
void AddInstructionSets(v1::Capabilities* capabilities) {
  __builtin_cpu_init();
#define KOINON_ADD_IF_SUPPORTED(compiler_name, wire_name) \
  if (__builtin_cpu_supports(compiler_name)) {            \
    capabilities->add_instruction_sets(wire_name);        \
  }
  KOINON_ADD_IF_SUPPORTED("sse4.2", "sse4.2")
  KOINON_ADD_IF_SUPPORTED("avx", "avx")
  KOINON_ADD_IF_SUPPORTED("avx2", "avx2")
  KOINON_ADD_IF_SUPPORTED("fma", "fma")
  KOINON_ADD_IF_SUPPORTED("avx512f", "avx512f")
  KOINON_ADD_IF_SUPPORTED("avx512bw", "avx512bw")
  KOINON_ADD_IF_SUPPORTED("avx512vnni", "avx512vnni")
  KOINON_ADD_IF_SUPPORTED("avx512bf16", "avx512_bf16")
  KOINON_ADD_IF_SUPPORTED("amx-bf16", "amx_bf16")
#undef KOINON_ADD_IF_SUPPORTED
}

int64_t MemoryBytes() {
  const int64_t pages = sysconf(_SC_PHYS_PAGES);
  const int64_t page = sysconf(_SC_PAGE_SIZE);
  return pages > 0 && page > 0 ? pages * page : 0;
}

}  // namespace

int AvailableCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  // Fails beyond CPU_SETSIZE processors: then all that are online.
  if (sched_getaffinity(0, sizeof(set), &set) == 0) {
    return std::max(1, CPU_COUNT(&set));
  }
  return std::max(1, static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)));
}

v1::Capabilities LocalCapabilities(
    const LocalDatasets& datasets,
    const std::vector<std::string>& external_trainers) {
  v1::Capabilities capabilities;
  capabilities.set_cores(AvailableCores());
  AddInstructionSets(&capabilities);
  capabilities.set_memory_bytes(MemoryBytes());
  for (const auto& [name, data] : datasets) {
    auto* dataset = capabilities.add_datasets();
    dataset->set_name(name);
    dataset->set_examples(data.examples());
    dataset->set_held_out_examples(data.held_out_examples());
  }
  for (const std::string& name : external_trainers) {
    capabilities.add_external_trainers(name);
  }
  return capabilities;
}

absl::Status CheckModelFitsData(const LocalDatasets& datasets,
                                const v1::OfferTask& offer) {
  const std::string& trainer = offer.training().external_trainer();
  if (!trainer.empty() && trainer != "native") return absl::OkStatus();
  const auto found = datasets.find(offer.dataset());
  if (found == datasets.end()) {
    return absl::NotFoundError(
        absl::StrCat("unknown dataset ", offer.dataset()));
  }
  if (found->second.external) {
    return absl::InvalidArgumentError(
        absl::StrCat("dataset ", offer.dataset(),
                     " can only be read by an external trainer"));
  }
  ABSL_RETURN_IF_ERROR(
      UsesBfloat16(offer.training(), kernels::HasBfloat16()).status());
  ABSL_ASSIGN_OR_RETURN(const kernels::ModelGraph graph,
                        kernels::ModelGraph::Build(offer.model()));
  const Dataset& data = found->second.train;
  if (static_cast<uint64_t>(graph.input_size()) == data.example_size()) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "the model takes examples of [", absl::StrJoin(graph.input_shape(), ", "),
      "], dataset ", offer.dataset(), " has [", absl::StrJoin(data.shape, ", "),
      "]"));
}

}  // namespace koinon::worker
