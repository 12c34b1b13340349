#include "worker/collective/site_exchange.h"

#include <algorithm>
#include <string>

#include "base/status_macros.h"

namespace koinon::worker {
namespace {

// A sum of less is mostly waiting; one of more begins too late.
constexpr size_t kLeastBucket = size_t{128} << 10;
constexpr size_t kMostBucket = size_t{4} << 20;
constexpr size_t kWantedBuckets = 16;

size_t BucketFor(size_t parameters) {
  return std::clamp(parameters / kWantedBuckets, kLeastBucket, kMostBucket);
}

}  // namespace

SiteExchange::SiteExchange(Communicator* communicator, const Options& options)
    : communicator_(communicator),
      options_(options),
      beside_(options.beside.value_or(
          GainsBeside(communicator->place(), options.parameters))) {
  if (beside_ && SumsGradients()) thread_ = std::thread([this] { Run(); });
}

SiteExchange::~SiteExchange() {
  if (!thread_.joinable()) return;
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  thread_.join();
}

void SiteExchange::Start(int64_t, double weight, absl::Span<float> gradients) {
  if (!SumsGradients()) return;
  MutexLock lock(&mutex_);
  bucket_ = options_.bucket > 0 ? options_.bucket : BucketFor(gradients.size());
  gradients_ = gradients;
  weight_ = static_cast<float>(weight);
  if (!beside_) return;
  missing_.clear();
  for (size_t begin = 0; begin < gradients.size(); begin += bucket_) {
    missing_.push_back(std::min(bucket_, gradients.size() - begin));
  }
  summing_ = true;
  finished_ = false;
  changed_.SignalAll();
}

void SiteExchange::Ready(size_t begin, size_t end) {
  if (!SumsGradients() || !beside_) return;
  MutexLock lock(&mutex_);
  Count(begin, end);
}

void SiteExchange::Count(size_t begin, size_t end) {
  while (begin < end) {
    const size_t index = begin / bucket_;
    const size_t stop = std::min(end, (index + 1) * bucket_);
    missing_[index] -= std::min(missing_[index], stop - begin);
    if (missing_[index] == 0) changed_.SignalAll();
    begin = stop;
  }
}

absl::Status SiteExchange::Finish(const absl::Status& own) {
  const absl::Time start = options_.clock->Now();
  absl::Status result;
  if (SumsGradients()) {
    result = beside_ ? AwaitBuckets(own) : SumAtOnce(own);
  } else if (!own.ok()) {
    // The others hear of it when they next average.
    result = AgreeThatAllIsWell(true);
  }
  if (absl::IsFailedPrecondition(result)) result = Blame(own);
  waited_ += options_.clock->Now() - start;
  return result;
}

absl::Status SiteExchange::SumAtOnce(const absl::Status& own) {
  absl::Span<float> gradients;
  float weight;
  {
    MutexLock lock(&mutex_);
    gradients = gradients_;
    weight = weight_;
  }
  ABSL_RETURN_IF_ERROR(communicator_->AllReduce(gradients, weight));
  return AgreeThatAllIsWell(!own.ok());
}

absl::Status SiteExchange::AwaitBuckets(const absl::Status& own) {
  MutexLock lock(&mutex_);
  // What a failed part left out: the others wait for all of it.
  std::fill(missing_.begin(), missing_.end(), 0);
  own_failed_ = !own.ok();
  finished_ = true;
  changed_.SignalAll();
  while (summing_) changed_.Wait(&mutex_);
  return result_;
}

absl::Status SiteExchange::Stepped(int64_t step, absl::Span<float> parameters) {
  const bool due = (step + 1) % std::max<int64_t>(1, options_.site_steps) == 0;
  if (SumsGradients() || (!due && step + 1 < options_.steps)) {
    return absl::OkStatus();
  }
  const absl::Time start = options_.clock->Now();
  absl::Status status = AgreeThatAllIsWell(false);
  if (absl::IsFailedPrecondition(status)) status = Blame(absl::OkStatus());
  if (status.ok()) {
    status = communicator_->AllReduce(
        parameters, 1.0f / static_cast<float>(communicator_->place().size));
  }
  waited_ += options_.clock->Now() - start;
  return status;
}

absl::Status SiteExchange::AgreeThatAllIsWell(bool failed) {
  float failures[] = {failed ? 1.0f : 0.0f};
  ABSL_RETURN_IF_ERROR(communicator_->AllReduce(absl::MakeSpan(failures)));
  if (failures[0] == 0) return absl::OkStatus();
  return absl::FailedPreconditionError("a rank failed");
}

absl::Status SiteExchange::Blame(const absl::Status& own) {
  ABSL_RETURN_IF_ERROR(AgreeOnStatus(communicator_, own));
  return absl::InternalError("a rank failed and did not say why");
}

void SiteExchange::Run() {
  while (AwaitStep()) {
    const absl::Status result = SumBuckets();
    MutexLock lock(&mutex_);
    result_ = result;
    summing_ = false;
    changed_.SignalAll();
  }
}

bool SiteExchange::AwaitStep() {
  MutexLock lock(&mutex_);
  while (!summing_ && !stopping_) changed_.Wait(&mutex_);
  return !stopping_;
}

absl::Status SiteExchange::SumBuckets() {
  size_t buckets;
  {
    MutexLock lock(&mutex_);
    buckets = missing_.size();
  }
  for (size_t i = buckets; i > 0; --i) {
    ABSL_RETURN_IF_ERROR(SumBucket(i - 1));
  }
  bool failed;
  {
    MutexLock lock(&mutex_);
    while (!finished_) changed_.Wait(&mutex_);
    failed = own_failed_;
  }
  return AgreeThatAllIsWell(failed);
}

absl::Status SiteExchange::SumBucket(size_t index) {
  absl::Span<float> values;
  float weight;
  {
    MutexLock lock(&mutex_);
    while (missing_[index] > 0) changed_.Wait(&mutex_);
    values = gradients_.subspan(index * bucket_, bucket_);
    weight = weight_;
  }
  return communicator_->AllReduce(values, weight);
}

}  // namespace koinon::worker
