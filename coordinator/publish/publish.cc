#include "coordinator/publish/publish.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"
#include "kernels/graph/model_graph.h"

namespace koinon::coordinator {
namespace {

// Elements moved at a time where nothing else decides: 1 MiB.
constexpr size_t kBlockElements = size_t{1} << 18;

// Adds the aggregate to the base version block by block and appends the sum to
// the new version's file.
class NewVersionSink final : public aggregation::UpdateSink {
 public:
  NewVersionSink(const ModelStore::Version& base, ModelStore::Writer* writer)
      : base_(base), writer_(writer) {}

  float* Window(size_t, size_t count) override {
    if (sum_.size() < count) {
      sum_.resize(count);
      base_block_.resize(count);
    }
    return sum_.data();
  }

  absl::Status Commit(size_t offset, size_t count) override {
    ABSL_RETURN_IF_ERROR(
        base_.file->ReadAt(base_.data_offset_bytes + offset * sizeof(float),
                           count * sizeof(float), base_block_.data()));
    bool finite = true;
    for (size_t i = 0; i < count; ++i) {
      sum_[i] += base_block_[i];
      finite &= std::isfinite(sum_[i]);
    }
    if (!finite) return NotFinite(offset, count);
    return writer_->Append(absl::MakeConstSpan(sum_.data(), count));
  }

 private:
  absl::Status NotFinite(size_t offset, size_t count) const {
    size_t i = 0;
    while (i < count && std::isfinite(sum_[i])) ++i;
    return absl::InternalError(
        absl::StrCat("the new version overflows at ",
                     base_.layout.DescribeElement(offset + i)));
  }

  const ModelStore::Version& base_;
  ModelStore::Writer* const writer_;
  std::vector<float> sum_;
  std::vector<float> base_block_;
};

absl::Status CopyValues(const ModelStore::Version& from,
                        ModelStore::Writer* to) {
  const size_t total = from.layout.total_elements();
  std::vector<float> block(std::min(total, kBlockElements));
  for (size_t offset = 0; offset < total; offset += kBlockElements) {
    const size_t count = std::min(kBlockElements, total - offset);
    ABSL_RETURN_IF_ERROR(
        from.file->ReadAt(from.data_offset_bytes + offset * sizeof(float),
                          count * sizeof(float), block.data()));
    ABSL_RETURN_IF_ERROR(to->Append(absl::MakeConstSpan(block.data(), count)));
  }
  return absl::OkStatus();
}

absl::Status InitializeValues(const kernels::ModelGraph& graph, uint64_t seed,
                              ModelStore::Writer* to) {
  const size_t total = graph.layout().total_elements();
  std::vector<float> block(std::min(total, kBlockElements));
  for (size_t offset = 0; offset < total; offset += kBlockElements) {
    const size_t count = std::min(kBlockElements, total - offset);
    graph.InitializeParameters(seed, offset,
                               absl::MakeSpan(block.data(), count));
    ABSL_RETURN_IF_ERROR(to->Append(absl::MakeConstSpan(block.data(), count)));
  }
  return absl::OkStatus();
}

absl::StatusOr<aggregation::UpdateSet> MakeUpdateSet(
    const Spool& spool, const RoundInput& input, const ModelLayout& layout,
    std::vector<aggregation::Refusal>* refusals) {
  std::vector<aggregation::Update> updates;
  for (const AcceptedRow& row : input.updates) {
    aggregation::Update update;
    update.worker = row.worker;
    update.weight = static_cast<double>(row.metrics.examples());
    update.base_version = input.base.version();
    update.layout_hash = layout.hash();
    update.elements = row.extent.size / sizeof(float);
    update.values = spool.Source(row.extent);
    updates.push_back(std::move(update));
  }
  aggregation::UpdateSet::Expected expected;
  expected.layout = layout;
  expected.base_version = input.base.version();
  expected.max_weight =
      static_cast<double>(input.spec.aggregation().max_weight());
  return aggregation::UpdateSet::Create(std::move(expected), std::move(updates),
                                        refusals);
}

absl::Status Publish(ModelStore* store, const Spool& spool, ThreadPool* pool,
                     const RoundInput& input, PublishedRound* published) {
  ABSL_ASSIGN_OR_RETURN(const ModelStore::Version base,
                        store->Open(input.base));
  ABSL_ASSIGN_OR_RETURN(
      const aggregation::UpdateSet set,
      MakeUpdateSet(spool, input, base.layout, &published->refusals));
  ABSL_ASSIGN_OR_RETURN(const auto aggregator,
                        aggregation::MakeAggregator(input.spec.aggregation()));
  ABSL_ASSIGN_OR_RETURN(
      auto writer,
      store->NewVersion(input.spec.name(), input.round, base.layout));
  NewVersionSink sink(base, writer.get());
  ABSL_ASSIGN_OR_RETURN(published->report,
                        aggregator->Aggregate(set, {.pool = pool}, &sink));

  v1::Provenance provenance;
  provenance.set_participants(static_cast<int64_t>(set.size()));
  int64_t examples = 0;
  for (const AcceptedRow& row : input.updates) {
    const bool refused = std::any_of(
        published->refusals.begin(), published->refusals.end(),
        [&](const auto& refusal) { return refusal.worker == row.worker; });
    if (refused) continue;
    // Claims of workers: their sum may exceed what fits.
    const int64_t room = std::numeric_limits<int64_t>::max() - examples;
    examples += std::min(room, row.metrics.examples());
  }
  provenance.set_examples(examples);
  provenance.set_rule(published->report.rule());
  provenance.set_seconds(input.seconds_open);
  ABSL_ASSIGN_OR_RETURN(const Digest parent,
                        Digest::FromBytes(input.base.digest()));
  ABSL_ASSIGN_OR_RETURN(published->manifest,
                        writer->Publish(parent, provenance));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::ModelManifest> PublishInitialModel(
    ModelStore* store, const v1::JobSpec& spec,
    const v1::ModelManifest* initial) {
  ABSL_ASSIGN_OR_RETURN(const kernels::ModelGraph graph,
                        kernels::ModelGraph::Build(spec.model()));
  ABSL_ASSIGN_OR_RETURN(auto writer,
                        store->NewVersion(spec.name(), 0, graph.layout()));
  if (initial != nullptr) {
    ABSL_ASSIGN_OR_RETURN(const ModelStore::Version from,
                          store->Open(*initial));
    if (from.layout.hash() != graph.layout().hash()) {
      return absl::InvalidArgumentError(
          absl::StrCat("initial_model ", initial->job(), "@",
                       initial->version(), " has another layout than model"));
    }
    ABSL_RETURN_IF_ERROR(CopyValues(from, writer.get()));
  } else {
    ABSL_RETURN_IF_ERROR(InitializeValues(graph, spec.seed(), writer.get()));
  }
  return writer->Publish(Digest(), v1::Provenance());
}

PublishedRound PublishRound(ModelStore* store, const Spool& spool,
                            ThreadPool* pool, const RoundInput& input) {
  const auto started = std::chrono::steady_clock::now();
  PublishedRound published;
  published.status = Publish(store, spool, pool, input, &published);
  published.seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started)
          .count();
  return published;
}

}  // namespace koinon::coordinator
