#include "coordinator/folds/fold.h"

#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "aggregation/rules/fixed_point_mean.h"
#include "base/status_macros.h"

namespace koinon::coordinator {
namespace {

using aggregation::kFixedPointBlock;

std::string Describe(const FoldRow& row) {
  return absl::StrCat("the running sum of job ", row.job, ", round ",
                      row.round);
}

void Hash(Sha256* hasher, absl::Span<const int64_t> sums) {
  hasher->Update(reinterpret_cast<const char*>(sums.data()),
                 sums.size() * sizeof(int64_t));
}

// The updates as rows of a pass, with what they read from.
struct Sources {
  std::vector<std::unique_ptr<aggregation::UpdateSource>> sources;
  aggregation::Rows rows;
  std::vector<double> weights;
};

Sources Open(const Spool& spool, const std::vector<FoldUpdate>& updates) {
  Sources open;
  for (const FoldUpdate& update : updates) {
    open.sources.push_back(spool.Source(update.extent));
    open.rows.push_back({open.sources.back().get(), &update.worker});
    open.weights.push_back(update.weight);
  }
  return open;
}

}  // namespace

bool FoldsOnArrival(const v1::JobSpec& spec) {
  const v1::AggregationSpec& aggregation = spec.aggregation();
  return aggregation.has_fedavg() &&
         aggregation.fedavg().arithmetic() ==
             v1::AggregationSpec::FedAvg::FIXED_POINT &&
         !spec.has_buffer();
}

absl::Status SumReader::Read(absl::Span<int64_t> sums) {
  const size_t size = sums.size() * sizeof(int64_t);
  const absl::Status read =
      spool_->Read(row_.extent, offset_, sums.data(), size);
  if (!read.ok()) {
    return absl::DataLossError(
        absl::StrCat(Describe(row_), ": ", read.message()));
  }
  if (check_) Hash(&hasher_, sums);
  offset_ += size;
  return absl::OkStatus();
}

absl::Status SumReader::Check() {
  if (!check_) return absl::OkStatus();
  const Digest found = hasher_.Finish();
  if (offset_ == row_.extent.size && found == row_.digest) {
    return absl::OkStatus();
  }
  return absl::DataLossError(
      absl::StrCat(Describe(row_), ": ", offset_, " bytes with digest ",
                   found.ToShortHex(), ", the journal says ", row_.extent.size,
                   " with ", row_.digest.ToShortHex()));
}

absl::StatusOr<Digest> AddToSum(Spool* spool, const FoldInput& input) {
  ABSL_ASSIGN_OR_RETURN(
      const aggregation::InstructionSet instruction_set,
      aggregation::ResolveInstructionSet(input.instruction_set));
  const Sources open = Open(*spool, input.updates);
  const size_t elements = input.layout.total_elements();
  std::vector<int64_t> block(std::min(elements, kFixedPointBlock));
  std::vector<float> scratch;
  std::optional<SumReader> from;
  if (input.from.has_value()) {
    from.emplace(spool, *input.from, input.check_digest);
  }
  Sha256 hasher;
  for (size_t begin = 0; begin < elements; begin += kFixedPointBlock) {
    const auto sums = absl::MakeSpan(block).first(
        std::min(kFixedPointBlock, elements - begin));
    if (from.has_value()) {
      ABSL_RETURN_IF_ERROR(from->Read(sums));
    } else {
      std::fill(sums.begin(), sums.end(), 0);
    }
    ABSL_RETURN_IF_ERROR(aggregation::AddFixedPointRows(
        input.format, input.layout, open.rows, open.weights, begin, sums,
        instruction_set, &scratch));
    ABSL_RETURN_IF_ERROR(spool->Write(input.to, begin * sizeof(int64_t),
                                      sums.data(),
                                      sums.size() * sizeof(int64_t)));
    Hash(&hasher, sums);
  }
  if (from.has_value()) ABSL_RETURN_IF_ERROR(from->Check());
  return hasher.Finish();
}

}  // namespace koinon::coordinator
