#include "worker/local_paths.h"

#include "gtest/gtest.h"

namespace koinon::worker {
namespace {

LocalPaths Some() {
  return LocalPaths({"state", "/data/ward b/scans, new: 3.npz", "digits.csv",
                     "/data/ward b", "", "mnt/"});
}

TEST(LocalPathsTest, KnownPath_IsHiddenWhole) {
  const LocalPaths paths = Some();
  EXPECT_EQ(paths.Hide("/data/ward b/scans, new: 3.npz: expected 4 bytes"),
            "(local path): expected 4 bytes");
  EXPECT_EQ(paths.Hide("DATA_LOSS: digits.csv: row 3 (of \"digits.csv\")"),
            "DATA_LOSS: (local path): row 3 (of \"(local path)\")");
  EXPECT_EQ(paths.Hide("state"), "(local path)");
}

TEST(LocalPathsTest, WhatLiesUnderOrBesideAKnownPath_IsHidden) {
  const LocalPaths paths = Some();
  EXPECT_EQ(paths.Hide("state/updates/job.r3: disk full"),
            "(local path): disk full");
  EXPECT_EQ(paths.Hide("cannot rename digits.csv.tmp, sorry"),
            "cannot rename (local path), sorry");
  EXPECT_EQ(paths.Hide("/data/ward b/other: gone"), "(local path): gone");
  EXPECT_EQ(paths.Hide("mnt/x: gone"), "(local path): gone");
}

TEST(LocalPathsTest, AbsolutePathThatNobodyTold_IsHidden) {
  const LocalPaths paths({});
  EXPECT_EQ(paths.Hide("/etc/koinon/a.key: permission denied"),
            "(local path): permission denied");
  EXPECT_EQ(paths.Hide("cannot start '/opt/train me'"),
            "cannot start '(local path) me'");
  EXPECT_EQ(paths.Hide("file=/x/y and (/z)"),
            "file=(local path) and ((local path))");
  EXPECT_EQ(Some().Hide("/state2/x: no"), "(local path): no");
}

TEST(LocalPathsTest, OtherText_IsLeftAlone) {
  const LocalPaths paths = Some();
  for (const char* text :
       {"", "loss became NaN at step 3", "job/r3/train", "12 / 7 samples/s",
        "estate tax", "mydigits.csv2", "host:7070 refused", "stateless",
        "the model has 3 values, expected 4"}) {
    EXPECT_EQ(paths.Hide(text), text);
  }
}

}  // namespace
}  // namespace koinon::worker
