#include "worker/collective/site_member.h"

#include <algorithm>

#include "base/digest.h"
#include "base/status_macros.h"

namespace koinon::worker {

SiteMember::SiteMember(Communicator* communicator, const Clock* clock)
    : communicator_(communicator), clock_(clock) {
  if (!alone()) before_ = communicator_->totals();
}

template <typename Work>
absl::Status SiteMember::Waited(Work work) {
  const absl::Time start = clock_->Now();
  const absl::Status status = work();
  waited_ += clock_->Now() - start;
  return status;
}

Shard SiteMember::shard() const {
  if (alone()) return {};
  return {.index = static_cast<size_t>(communicator_->place().rank),
          .count = static_cast<size_t>(communicator_->place().size)};
}

absl::Status SiteMember::Agree(const absl::Status& own) {
  if (alone()) return own;
  return Waited([&] { return AgreeOnStatus(communicator_, own); });
}

absl::Status SiteMember::Share(absl::Span<float> values) {
  if (alone()) return absl::OkStatus();
  return Waited([&] {
    return communicator_->Broadcast(absl::MakeSpan(
        reinterpret_cast<char*>(values.data()), values.size() * sizeof(float)));
  });
}

GradientExchange* SiteMember::BeginRun(const v1::TrainingSpec& spec,
                                       int64_t steps, size_t parameters) {
  if (alone()) return nullptr;
  exchange_ = std::make_unique<SiteExchange>(
      communicator_, SiteExchange::Options{.clock = clock_,
                                           .steps = steps,
                                           .site_steps = spec.site_steps(),
                                           .parameters = parameters});
  run_began_ = clock_->Now();
  return exchange_.get();
}

absl::Status SiteMember::AverageBuffers(const kernels::ModelGraph& graph,
                                        absl::Span<float> parameters) {
  for (size_t i = 0; i < graph.layout().tensors().size(); ++i) {
    if (!graph.is_buffer(i)) continue;
    ABSL_RETURN_IF_ERROR(communicator_->AllReduce(
        parameters.subspan(graph.layout().offset_bytes(i) / sizeof(float),
                           graph.layout().element_count(i)),
        1.0f / static_cast<float>(communicator_->place().size)));
  }
  return absl::OkStatus();
}

absl::Status SiteMember::EndRun(const kernels::ModelGraph& graph,
                                absl::Span<float> parameters,
                                TrainingTotals* totals) {
  if (alone()) return absl::OkStatus();
  in_steps_ = clock_->Now() - run_began_;
  return Waited([&]() -> absl::Status {
    ABSL_RETURN_IF_ERROR(AverageBuffers(graph, parameters));
    Sha256 hash;
    hash.Update(parameters.data(), parameters.size() * sizeof(float));
    ABSL_RETURN_IF_ERROR(AgreeOnDigest(
        communicator_, "parameters after training", hash.Finish()));
    double sums[] = {totals->loss, static_cast<double>(totals->correct),
                     static_cast<double>(totals->labels),
                     static_cast<double>(totals->examples)};
    ABSL_RETURN_IF_ERROR(SumDoubles(communicator_, absl::MakeSpan(sums)));
    totals->loss = sums[0];
    totals->correct = static_cast<int64_t>(sums[1]);
    totals->labels = static_cast<int64_t>(sums[2]);
    totals->examples = static_cast<int64_t>(sums[3]);
    return absl::OkStatus();
  });
}

v1::SiteCommunication SiteMember::Communication() const {
  const Communicator::Totals now = communicator_->totals();
  const absl::Duration waited_in_steps =
      exchange_ == nullptr ? absl::ZeroDuration() : exchange_->waited();
  v1::SiteCommunication communication;
  communication.set_ranks(communicator_->place().size);
  communication.set_nodes(communicator_->place().nodes);
  communication.set_bytes(now.bytes - before_.bytes);
  communication.set_seconds(absl::ToDoubleSeconds(now.time - before_.time));
  communication.set_waited_seconds(
      absl::ToDoubleSeconds(waited_ + waited_in_steps));
  communication.set_step_seconds(absl::ToDoubleSeconds(in_steps_));
  communication.set_step_waited_seconds(absl::ToDoubleSeconds(waited_in_steps));
  return communication;
}

}  // namespace koinon::worker
