#include "coordinator/models/file_digests.h"

#include <gtest/gtest.h>

#include <string>

#include "base/random.h"

namespace koinon::coordinator {
namespace {

TEST(FileDigestsTest, NoBytes_NoChunks) {
  const FileDigests::Result result = FileDigests(4).Finish();
  EXPECT_EQ(result.file, Sha256Of(""));
  EXPECT_TRUE(result.chunks.empty());
}

TEST(FileDigestsTest, AnyPieces_DigestsOfFileAndChunks) {
  for (uint64_t seed = 0; seed < 100; ++seed) {
    Random random(seed);
    std::string bytes(random.NextBelow(300'000), '\0');
    for (char& c : bytes) c = static_cast<char>(random.NextUint64());
    const size_t chunk = 1 + random.NextBelow(seed % 2 == 0 ? 200'000 : 5'000);
    FileDigests digests(static_cast<int64_t>(chunk));
    for (size_t done = 0; done < bytes.size();) {
      const size_t piece =
          std::min<size_t>(bytes.size() - done, random.NextBelow(150'000));
      digests.Update(bytes.data() + done, piece);
      done += piece;
    }
    const FileDigests::Result result = digests.Finish();
    EXPECT_EQ(result.file, Sha256Of(bytes)) << "seed " << seed;
    ASSERT_EQ(result.chunks.size(), (bytes.size() + chunk - 1) / chunk);
    for (size_t i = 0; i < result.chunks.size(); ++i) {
      EXPECT_EQ(result.chunks[i], Sha256Of(bytes.substr(i * chunk, chunk)))
          << "seed " << seed << " chunk " << i;
    }
  }
}

}  // namespace
}  // namespace koinon::coordinator
