#include "dht/swarm/piece_picker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace koinon::dht {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

const absl::Time kStart = absl::UnixEpoch();

Bitmap All(size_t pieces) {
  Bitmap bitmap(pieces);
  for (size_t i = 0; i < pieces; ++i) bitmap.Set(i);
  return bitmap;
}

TEST(PiecePickerTest, Next_RarestFirst_WithinTheBound) {
  PiecePicker picker({.pieces = 4, .in_flight_per_source = 2}, Bitmap(4),
                     kStart);
  picker.AddSource(1, false);
  picker.AddSource(2, false);
  picker.OnHave(1, All(4));
  picker.OnHave(2, 0);
  picker.OnHave(2, 1);
  const auto first = picker.Next(1, kStart).pieces;
  EXPECT_THAT(first, ::testing::UnorderedElementsAre(2, 3));
  EXPECT_THAT(picker.Next(1, kStart).pieces, IsEmpty());
  EXPECT_TRUE(picker.OnPiece(1, first[0], kStart));
  EXPECT_THAT(picker.Next(1, kStart).pieces, SizeIs(1));
}

}  // namespace
}  // namespace koinon::dht
