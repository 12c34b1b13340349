#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "base/check.h"
#include "base/testing_env.h"
#include "dht/swarm/testing_content.h"
#include "dht/swarm/upload.h"

namespace {

using namespace koinon;       // NOLINT
using namespace koinon::dht;  // NOLINT

constexpr int64_t kPieceBytes = 64 << 10;
constexpr uint32_t kPieces = 5;  // the last one shorter
constexpr size_t kMaxWants = 8;
constexpr size_t kBlockBytes = 16 << 10;

std::shared_ptr<ContentFile> WholeContent() {
  static MemoryEnv* const env = new MemoryEnv;
  static const std::shared_ptr<ContentFile>* const file = [] {
    const TestContent content =
        RandomContent(1, kPieces * kPieceBytes - 5000, kPieceBytes);
    KOINON_CHECK(WriteContent(env, "/whole", content).ok());
    auto whole = ContentFile::OpenWhole(env, "/whole", content.content(),
                                        content.tree.leaves);
    KOINON_CHECK(whole.ok());
    return new std::shared_ptr<ContentFile>(*std::move(whole));
  }();
  return *file;
}

// That replies are about pieces that there are, and the blocks of each come in
// order and end with it.
class Receiver {
 public:
  void Take(const v1::FetchReply& reply) {
    if (reply.has_piece_start()) {
      KOINON_CHECK(reply.piece_start().piece() < kPieces);
      KOINON_CHECK(piece_ == kNone || refused_);
      piece_ = reply.piece_start().piece();
      got_ = 0;
      refused_ = false;
    } else if (reply.has_block()) {
      KOINON_CHECK(piece_ == reply.block().piece());
      KOINON_CHECK(reply.block().offset() == got_);
      KOINON_CHECK(!reply.block().data().empty());
      got_ += static_cast<int64_t>(reply.block().data().size());
      KOINON_CHECK(got_ <= WholeContent()->map().PieceBytes(piece_));
      if (got_ == WholeContent()->map().PieceBytes(piece_)) piece_ = kNone;
    } else if (reply.has_refused()) {
      // It, or another that was asked for beside it.
      refused_ = refused_ || piece_ == reply.refused().piece();
    }
  }

 private:
  static constexpr uint32_t kNone = kPieces;
  uint32_t piece_ = kNone;
  int64_t got_ = 0;
  bool refused_ = false;
};

}  // namespace

// One stream's requests as they may come from anybody, each after a byte that
// says how long it is; the first byte says whether an origin is asked, and how
// many replies are taken after each. An error ends the stream; until then every
// reply is about what was asked for, and as much is queued as may be.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const bool origin = (data[0] & 1) != 0;
  const int replies = data[0] >> 1;
  OriginBook book(2);
  Upload::Options options;
  options.max_wants = kMaxWants;
  options.block_bytes = kBlockBytes;
  Upload upload(WholeContent(), Bitmap(kPieces), origin ? &book : nullptr,
                OriginBook::Caller{.serves = true}, options);
  Receiver receiver;
  v1::FetchReply reply;
  size_t at = 1;
  while (at < size) {
    const size_t bytes = std::min<size_t>(data[at], size - at - 1);
    v1::FetchRequest request;
    if (!request.ParseFromArray(data + at + 1, static_cast<int>(bytes))) break;
    at += 1 + bytes;
    if (!upload.OnRequest(request).ok()) break;
    for (int i = 0; i < replies && upload.NextReply(&reply); ++i) {
      receiver.Take(reply);
    }
  }
  // What is left is no more than was let in, and comes to an end.
  constexpr size_t kReplies = 1 + kPieceBytes / kBlockBytes;  // of a piece
  size_t left = 0;
  while (upload.NextReply(&reply)) {
    receiver.Take(reply);
    KOINON_CHECK(++left <= (kMaxWants + 1) * kReplies + 2);  // opening, news
  }
  return 0;
}
