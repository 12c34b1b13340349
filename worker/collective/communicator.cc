#include "worker/collective/communicator.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace koinon::worker {
namespace {

// A status on the wire: one byte of code, then the message, cut if need be.
std::string Encode(const absl::Status& status) {
  std::string encoded(1, static_cast<char>(status.raw_code()));
  absl::StrAppend(&encoded, status.message());
  encoded.resize(std::min(encoded.size(), Communicator::kMaxGatheredBytes));
  return encoded;
}

absl::Status Decode(const std::string& encoded, absl::string_view whose) {
  if (encoded.empty()) {
    return absl::InternalError(absl::StrCat(whose, " said nothing"));
  }
  const auto code = static_cast<absl::StatusCode>(encoded[0]);
  if (code == absl::StatusCode::kOk) return absl::OkStatus();
  return absl::Status(code, absl::StrCat(whose, ": ", encoded.substr(1)));
}

}  // namespace

absl::Status AgreeOnStatus(Communicator* communicator,
                           const absl::Status& own) {
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> all,
                        communicator->AllGather(Encode(own)));
  for (size_t rank = 0; rank < all.size(); ++rank) {
    ABSL_RETURN_IF_ERROR(
        Decode(all[rank], communicator->NameOf(static_cast<int>(rank))));
  }
  return absl::OkStatus();
}

absl::Status AgreeOnDigest(Communicator* communicator, absl::string_view what,
                           const Digest& digest) {
  ABSL_ASSIGN_OR_RETURN(const std::vector<std::string> all,
                        communicator->AllGather(digest.ToBytes()));
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    const auto expected = Digest::FromBytes(all[0]);
    const auto found = Digest::FromBytes(all[rank]);
    return absl::InternalError(absl::StrCat(
        what, ": expected ",
        expected.ok() ? expected->ToShortHex() : std::string("a digest"),
        ", as on rank 0, found ",
        found.ok() ? found->ToShortHex() : std::string("no digest"), " on ",
        communicator->NameOf(static_cast<int>(rank))));
  }
  return absl::OkStatus();
}

absl::Status SumDoubles(Communicator* communicator, absl::Span<double> values) {
  const size_t size_bytes = values.size() * sizeof(double);
  ABSL_ASSIGN_OR_RETURN(
      const std::vector<std::string> all,
      communicator->AllGather(absl::string_view(
          reinterpret_cast<const char*>(values.data()), size_bytes)));
  std::fill(values.begin(), values.end(), 0.0);
  for (const std::string& one : all) {
    if (one.size() != size_bytes) {
      return absl::InternalError(absl::StrCat("sum of doubles: expected ",
                                              size_bytes, " bytes, found ",
                                              one.size()));
    }
    for (size_t i = 0; i < values.size(); ++i) {
      double value;
      std::memcpy(&value, one.data() + i * sizeof(double), sizeof(double));
      values[i] += value;
    }
  }
  return absl::OkStatus();
}

}  // namespace koinon::worker
