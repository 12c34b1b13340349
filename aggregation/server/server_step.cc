#include "aggregation/server/server_step.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/check.h"
#include "base/status_macros.h"

namespace koinon::aggregation {
namespace {

// Elements stepped at a time: all vectors of a block stay in the L2 cache.
constexpr size_t kBlock = size_t{1} << 16;

bool AllFinite(absl::Span<const float> values) {
  constexpr uint32_t kExponent = 0x7f800000;
  uint32_t bad = 0;
  for (float x : values) {
    bad |= (std::bit_cast<uint32_t>(x) & kExponent) == kExponent;
  }
  return bad == 0;
}

}  // namespace

ServerStepSink::ServerStepSink(ServerStep step) : step_(std::move(step)) {
  const size_t states =
      step_.optimizer == nullptr ? 0 : step_.optimizer->state_names().size();
  KOINON_CHECK(step_.state.size() == states);
  base_scratch_.resize(kBlock);
  state_.assign(states, std::vector<float>(kBlock));
  for (std::vector<float>& block : state_) state_data_.push_back(block.data());
}

float* ServerStepSink::Window(size_t, size_t count) {
  if (window_.size() < count) window_.resize(count);
  return window_.data();
}

absl::Status ServerStepSink::Commit(size_t offset, size_t count) {
  for (size_t done = 0; done < count; done += kBlock) {
    ABSL_RETURN_IF_ERROR(CommitBlock(
        offset + done,
        absl::MakeSpan(window_.data() + done, std::min(kBlock, count - done))));
  }
  return absl::OkStatus();
}

absl::Status ServerStepSink::CommitBlock(size_t offset,
                                         absl::Span<float> delta) {
  ABSL_RETURN_IF_ERROR(CheckFinite(delta, offset, "the aggregate"));
  if (step_.optimizer != nullptr) {
    ABSL_RETURN_IF_ERROR(LoadState(offset, delta.size()));
    step_.optimizer->Step(step_.step, delta, state_data_);
    for (size_t i = 0; i < state_.size(); ++i) {
      const auto after = absl::MakeConstSpan(state_data_[i], delta.size());
      ABSL_RETURN_IF_ERROR(CheckFinite(
          after, offset,
          absl::StrCat(step_.optimizer->name(), "'s ", step_.state[i].name)));
      ABSL_RETURN_IF_ERROR(step_.state[i].after(after));
    }
    ABSL_RETURN_IF_ERROR(CheckFinite(
        delta, offset, absl::StrCat(step_.optimizer->name(), "'s step")));
  }
  if (step_.base != nullptr) {
    ABSL_ASSIGN_OR_RETURN(
        const float* const base,
        step_.base->Read(offset, delta.size(), base_scratch_.data()));
    for (size_t i = 0; i < delta.size(); ++i) delta[i] += base[i];
    ABSL_RETURN_IF_ERROR(CheckFinite(delta, offset, "the new version"));
  }
  return step_.out(delta);
}

absl::Status ServerStepSink::LoadState(size_t offset, size_t count) {
  for (size_t i = 0; i < state_.size(); ++i) {
    float* const block = state_data_[i];
    if (step_.state[i].before == nullptr) {
      std::fill_n(block, count, step_.optimizer->InitialState(i));
      continue;
    }
    ABSL_ASSIGN_OR_RETURN(const float* const values,
                          step_.state[i].before->Read(offset, count, block));
    if (values != block) std::copy_n(values, count, block);
  }
  return absl::OkStatus();
}

absl::Status ServerStepSink::CheckFinite(absl::Span<const float> values,
                                         size_t offset,
                                         const std::string& what) const {
  if (AllFinite(values)) return absl::OkStatus();
  const auto bad = std::find_if(values.begin(), values.end(),
                                [](float x) { return !std::isfinite(x); });
  return absl::InternalError(absl::StrCat(
      what, std::isnan(*bad) ? " is NaN at " : " overflows at ",
      step_.layout.DescribeElement(offset +
                                   static_cast<size_t>(bad - values.begin()))));
}

TeeSink::TeeSink(AppendValues also, UpdateSink* next)
    : also_(std::move(also)), next_(next) {}

float* TeeSink::Window(size_t offset, size_t count) {
  float* const window = next_->Window(offset, count);
  window_ = window;
  return window;
}

absl::Status TeeSink::Commit(size_t offset, size_t count) {
  ABSL_RETURN_IF_ERROR(also_(absl::MakeConstSpan(window_, count)));
  return next_->Commit(offset, count);
}

}  // namespace koinon::aggregation
