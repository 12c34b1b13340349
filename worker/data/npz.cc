#include "worker/data/npz.h"

#include <algorithm>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "base/status_macros.h"
#include "worker/data/npy.h"
#include "worker/data/unpack.h"

namespace koinon::worker {
namespace {

// Signatures and fixed sizes of zip's records (PKWARE APPNOTE 6.3, 4.3).
constexpr absl::string_view kLocalHeader("PK\x03\x04", 4);
constexpr absl::string_view kCentralHeader("PK\x01\x02", 4);
constexpr absl::string_view kEndRecord("PK\x05\x06", 4);
constexpr size_t kLocalHeaderBytes = 30;
constexpr size_t kCentralHeaderBytes = 46;
constexpr size_t kEndRecordBytes = 22;
constexpr size_t kMaxCommentBytes = 0xffff;
constexpr uint16_t kEncrypted = 1;
constexpr uint16_t kStored = 0;
constexpr uint16_t kDeflated = 8;
// Stands for "see the zip64 record".
constexpr uint32_t kZip64 = 0xffffffff;

struct Member {
  std::string name;
  uint16_t flags = 0;
  uint16_t method = 0;
  uint32_t crc = 0;
  uint32_t packed_bytes = 0;
  uint32_t unpacked_bytes = 0;
  uint32_t header_offset = 0;
};

// Requires p to point at enough bytes, as do the two below.
uint16_t Load16(const char* p) {
  return static_cast<uint16_t>(static_cast<uint8_t>(p[0]) |
                               static_cast<uint8_t>(p[1]) << 8);
}
uint32_t Load32(const char* p) {
  return Load16(p) | static_cast<uint32_t>(Load16(p + 2)) << 16;
}

// Zip's records, each checked against the end of the file before it is read.
class Archive {
 public:
  Archive(absl::string_view what, absl::string_view bytes)
      : what_(what), bytes_(bytes) {}

  absl::StatusOr<std::vector<Member>> ListMembers() const {
    const size_t end = FindEndRecord();
    if (end == absl::string_view::npos) {
      return absl::InvalidArgumentError(absl::StrCat(
          what_, ": expected a zip archive, found no end record (PK 05 06)"));
    }
    const uint16_t count = Load16(&bytes_[end + 10]);
    size_t offset = Load32(&bytes_[end + 16]);
    if (offset == kZip64 || count == 0xffff) {
      return Bad(end, "an archive under 4 GiB", "zip64");
    }
    std::vector<Member> members;
    for (uint16_t i = 0; i < count; ++i) {
      ABSL_ASSIGN_OR_RETURN(Member member, ReadMember(&offset));
      members.push_back(std::move(member));
    }
    return members;
  }

  // The member's bytes as they lie in the archive.
  absl::StatusOr<absl::string_view> PackedBytes(const Member& member) const {
    const size_t offset = member.header_offset;
    if (!HasRecord(offset, kLocalHeader, kLocalHeaderBytes)) {
      return Bad(offset, "a local header (PK 03 04)", "something else");
    }
    // The sizes here may be left to the central directory; its are used.
    const size_t start = offset + kLocalHeaderBytes +
                         Load16(&bytes_[offset + 26]) +
                         Load16(&bytes_[offset + 28]);
    if (start > bytes_.size() || bytes_.size() - start < member.packed_bytes) {
      return Bad(start, absl::StrCat(member.packed_bytes, " bytes of data"),
                 "the end of the file");
    }
    return bytes_.substr(start, member.packed_bytes);
  }

 private:
  // It is the last record, and a comment of any length may follow it.
  size_t FindEndRecord() const {
    if (bytes_.size() < kEndRecordBytes) return absl::string_view::npos;
    const size_t last = bytes_.size() - kEndRecordBytes;
    const size_t first = last > kMaxCommentBytes ? last - kMaxCommentBytes : 0;
    for (size_t i = last + 1; i > first; --i) {
      if (bytes_.substr(i - 1, 4) == kEndRecord) return i - 1;
    }
    return absl::string_view::npos;
  }

  absl::StatusOr<Member> ReadMember(size_t* offset) const {
    const size_t at = *offset;
    if (!HasRecord(at, kCentralHeader, kCentralHeaderBytes)) {
      return Bad(at, "a central header (PK 01 02)", "something else");
    }
    const char* p = &bytes_[at];
    const size_t name_bytes = Load16(p + 28);
    const size_t size =
        kCentralHeaderBytes + name_bytes + Load16(p + 30) + Load16(p + 32);
    if (bytes_.size() - at < size) {
      return Bad(at, absl::StrCat("a central header of ", size, " bytes"),
                 "the end of the file");
    }
    *offset = at + size;
    return Member{.name = std::string(p + kCentralHeaderBytes, name_bytes),
                  .flags = Load16(p + 8),
                  .method = Load16(p + 10),
                  .crc = Load32(p + 16),
                  .packed_bytes = Load32(p + 20),
                  .unpacked_bytes = Load32(p + 24),
                  .header_offset = Load32(p + 42)};
  }

  bool HasRecord(size_t offset, absl::string_view signature,
                 size_t size) const {
    return offset <= bytes_.size() && bytes_.size() - offset >= size &&
           bytes_.substr(offset, signature.size()) == signature;
  }

  absl::Status Bad(size_t offset, absl::string_view expected,
                   absl::string_view found) const {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: zip archive, offset %d: expected %s, found %s",
                        what_, offset, expected, found));
  }

  const absl::string_view what_;
  const absl::string_view bytes_;
};

absl::Status CheckMember(absl::string_view what, const Member& member,
                         uint64_t max_bytes) {
  if ((member.flags & kEncrypted) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(what,
                     ": expected no encryption, found an encrypted "
                     "member"));
  }
  if (member.method != kStored && member.method != kDeflated) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: expected compression method 0 (stored) or 8 (deflated), found %d",
        what, member.method));
  }
  if (member.packed_bytes == kZip64 || member.unpacked_bytes == kZip64) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": expected a member under 4 GiB, found zip64"));
  }
  if (member.unpacked_bytes > max_bytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("%s: unpacks to %d bytes, max_bytes is %d", what,
                        member.unpacked_bytes, max_bytes));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> Unpack(absl::string_view what, const Member& member,
                                   absl::string_view packed) {
  if (member.method == kDeflated) {
    return Inflate(what, packed, member.unpacked_bytes);
  }
  if (packed.size() != member.unpacked_bytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: expected %d bytes of a stored member, found %d",
                        what, member.unpacked_bytes, packed.size()));
  }
  return std::string(packed);
}

absl::Status NoSuchMember(absl::string_view what, absl::string_view key,
                          const std::vector<Member>& members) {
  const auto append_name = [](std::string* out, const Member& member) {
    absl::StrAppend(out, absl::CHexEscape(member.name));
  };
  constexpr size_t kShown = 20;
  return absl::NotFoundError(absl::StrFormat(
      "%s: no array \"%s\"; the archive's %d members: %s", what, key,
      members.size(),
      absl::StrJoin(members.begin(),
                    members.begin() + std::min(kShown, members.size()), ", ",
                    append_name)));
}

}  // namespace

absl::StatusOr<NumericArray> DecodeNpz(absl::string_view what,
                                       absl::string_view bytes,
                                       absl::string_view key,
                                       uint64_t max_bytes) {
  const Archive archive(what, bytes);
  ABSL_ASSIGN_OR_RETURN(const std::vector<Member> members,
                        archive.ListMembers());
  const auto member = std::find_if(
      members.begin(), members.end(), [key](const Member& candidate) {
        return candidate.name == absl::StrCat(key, ".npy");
      });
  if (member == members.end()) return NoSuchMember(what, key, members);
  const std::string where = absl::StrCat(what, ": ", member->name);
  ABSL_RETURN_IF_ERROR(CheckMember(where, *member, max_bytes));
  ABSL_ASSIGN_OR_RETURN(const absl::string_view packed,
                        archive.PackedBytes(*member));
  ABSL_ASSIGN_OR_RETURN(const std::string content,
                        Unpack(where, *member, packed));
  if (Crc32(content) != member->crc) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: expected check sum %08x, found %08x", where,
                        member->crc, Crc32(content)));
  }
  return DecodeNpy(where, content, max_bytes);
}

}  // namespace koinon::worker
