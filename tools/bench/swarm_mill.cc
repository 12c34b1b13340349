#include "tools/bench/swarm_mill.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/mutex.h"
#include "base/status_macros.h"
#include "dht/swarm/fetch_stream.h"
#include "dht/swarm/leaf_hashes.h"
#include "dht/swarm/reply_bytes.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "proto/dht.grpc.pb.h"

namespace koinon::bench {
namespace {

constexpr int64_t kBlockBytes = 256 << 10;

// What it sends, one stream of it.
class MillReactor final
    : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  // `file` is borrowed.
  MillReactor(int64_t size_bytes, const File* file)
      : size_bytes_(size_bytes), file_(file) {
    StartRead(&request_bytes_);
  }
  // The caller says how many it wants, once.
  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    grpc::ProtoBufferReader reader(&request_bytes_);
    v1::FetchRequest request;
    if (!request.ParseFromZeroCopyStream(&reader)) {
      return Finish(
          grpc::Status(grpc::StatusCode::INVALID_ARGUMENT, "request"));
    }
    left_ = request.want_any().count();
    WriteOn(true);
  }
  void OnWriteDone(bool ok) override { WriteOn(ok); }
  void OnDone() override { delete this; }

 private:
  void WriteOn(bool ok) {
    if (!ok || left_-- == 0 || sent_ == size_bytes_) {
      return Finish(grpc::Status::OK);
    }
    std::string* const data = reply_.mutable_block()->mutable_data();
    *data = spare_->Take();
    data->resize(std::min(kBlockBytes, size_bytes_ - sent_));
    if (file_ != nullptr) {
      const absl::Status read =
          file_->ReadAt(sent_, data->size(), data->data());
      if (!read.ok()) {
        return Finish(grpc::Status(grpc::StatusCode::INTERNAL,
                                   std::string(read.message())));
      }
    }
    sent_ += static_cast<int64_t>(data->size());
    reply_bytes_ = dht::EncodeReply(&reply_, spare_);
    StartWrite(&reply_bytes_);
  }

  const int64_t size_bytes_;
  const File* const file_;
  const std::shared_ptr<dht::SpareBlocks> spare_ =  // second owners: blocks
      std::make_shared<dht::SpareBlocks>(2);        // under way
  grpc::ByteBuffer request_bytes_;
  v1::FetchReply reply_;
  grpc::ByteBuffer reply_bytes_;
  uint32_t left_ = 0;  // blocks
  int64_t sent_ = 0;
};

class MillService final : public v1::PeerService::WithRawCallbackMethod_Fetch<
                              v1::PeerService::Service> {
 public:
  MillService(int64_t size_bytes, std::unique_ptr<File> file)
      : size_bytes_(size_bytes), file_(std::move(file)) {}

 private:
  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Fetch(
      grpc::CallbackServerContext*) override {
    return new MillReactor(size_bytes_, file_.get());
  }

  const int64_t size_bytes_;
  const std::unique_ptr<File> file_;
};

// A stream's replies, waited for.
class Replies {
 public:
  Replies(std::shared_ptr<grpc::Channel> channel, v1::FetchRequest request)
      : stream_(dht::FetchStream::Start(
            std::move(channel), std::move(request), [this] { Set(&ready_); },
            [this] { Set(&gone_); })) {}
  ~Replies() {
    stream_->Cancel();
    MutexLock lock(&mutex_);
    while (!gone_) changed_.Wait(&mutex_);
  }

  // False: none will come any more.
  bool Next(v1::FetchReply* reply) {
    while (!stream_->Take(reply, &spare_)) {
      if (stream_->over()) return false;
      MutexLock lock(&mutex_);
      while (!std::exchange(ready_, false)) changed_.Wait(&mutex_);
    }
    return true;
  }
  absl::Status status() const { return stream_->status(); }

 private:
  void Set(bool* what) {
    MutexLock lock(&mutex_);
    *what = true;
    changed_.Signal();
  }

  std::string spare_;
  Mutex mutex_;
  CondVar changed_;
  bool ready_ ABSL_GUARDED_BY(mutex_) = false;
  bool gone_ ABSL_GUARDED_BY(mutex_) = false;
  const std::shared_ptr<dht::FetchStream> stream_;
};

}  // namespace

std::unique_ptr<grpc::Service> NewMillService(int64_t size_bytes,
                                              std::unique_ptr<File> file) {
  return std::make_unique<MillService>(size_bytes, std::move(file));
}

absl::Status PullThroughMill(
    std::shared_ptr<grpc::Channel> channel, int64_t size_bytes,
    const std::function<absl::Status(absl::Span<const uint8_t>)>& take) {
  v1::FetchRequest request;
  request.mutable_want_any()->set_count(
      static_cast<uint32_t>((size_bytes + kBlockBytes - 1) / kBlockBytes));
  Replies replies(std::move(channel), std::move(request));
  v1::FetchReply reply;
  int64_t received = 0;
  while (received < size_bytes) {
    if (!replies.Next(&reply)) {
      const absl::Status status = replies.status();
      return status.ok() ? absl::UnavailableError(absl::StrCat(
                               size_bytes, " bytes expected, found ", received))
                         : status;
    }
    const std::string& data = reply.block().data();
    ABSL_RETURN_IF_ERROR(take(absl::MakeConstSpan(
        reinterpret_cast<const uint8_t*>(data.data()), data.size())));
    received += static_cast<int64_t>(data.size());
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<VerifiedCopy>> VerifiedCopy::Create(
    Env* env, const std::string& path, std::vector<Digest> leaves) {
  ABSL_ASSIGN_OR_RETURN(std::unique_ptr<File> file,
                        env->Open(path, Env::OpenMode::kCreate));
  return std::unique_ptr<VerifiedCopy>(
      new VerifiedCopy(std::move(file), std::move(leaves)));
}

absl::Status VerifiedCopy::Append(absl::Span<const uint8_t> bytes) {
  const std::vector<Digest> found = dht::LeafHashes(bytes);
  for (size_t i = 0; i < found.size(); ++i) {
    if (next_ + i < leaves_.size() && found[i] == leaves_[next_ + i]) continue;
    return absl::DataLossError(absl::StrCat(
        "leaf ", next_ + i, " of ", leaves_.size(), " is not the content's"));
  }
  ABSL_RETURN_IF_ERROR(file_->WriteAt(written_, bytes.data(), bytes.size()));
  next_ += found.size();
  written_ += static_cast<int64_t>(bytes.size());
  return absl::OkStatus();
}

absl::Status VerifiedCopy::Finish() {
  if (next_ != leaves_.size()) {
    return absl::DataLossError(
        absl::StrCat(leaves_.size(), " leaves expected, found ", next_));
  }
  return file_->Sync();
}

}  // namespace koinon::bench
