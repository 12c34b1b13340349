#include "worker/train/task_checks.h"

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "base/status_matchers.h"

namespace koinon::worker {
namespace {

using testing::HasSubstr;

v1::OfferTask Offer(const std::string& dataset) {
  v1::OfferTask offer;
  offer.set_dataset(dataset);
  offer.mutable_task()->set_job("job-1");
  offer.set_base_version(4);
  return offer;
}

LocalDatasets TwoDatasets() {
  LocalDatasets datasets;
  datasets["digits"].external = true;
  datasets["digits"].declared_held_out_examples = 1;
  datasets["faces"].external = true;
  return datasets;
}

TEST(FindDataset, KnownName_IsFound) {
  const LocalDatasets datasets = TwoDatasets();
  EXPECT_THAT(FindDataset(datasets, Offer("faces")),
              IsOkAndHolds(&datasets.at("faces")));
}

TEST(FindDataset, UnknownName_ListsThoseThereAre) {
  EXPECT_THAT(FindDataset(TwoDatasets(), Offer("x\n")),
              StatusIs(absl::StatusCode::kNotFound,
                       HasSubstr("dataset \"x\\n\": this worker has none of "
                                 "that name; it has: digits, faces")));
  EXPECT_THAT(FindDataset({}, Offer("x")),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("none at all")));
}

TEST(CheckHeldOut, NoHeldOutPart_IsRefused) {
  const LocalDatasets datasets = TwoDatasets();
  EXPECT_OK(CheckHeldOut(datasets.at("digits"), Offer("digits")));
  EXPECT_THAT(CheckHeldOut(datasets.at("faces"), Offer("faces")),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("dataset faces")));
}

TEST(CheckOfferedLayout, AnotherLayout_IsRefusedWithBothHashes) {
  ASSERT_OK_AND_ASSIGN(const ModelLayout layout,
                       ModelLayout::Create({{.name = "w", .shape = {3}}}));
  v1::OfferTask offer = Offer("digits");
  offer.set_layout_hash(layout.hash().ToBytes());
  EXPECT_OK(CheckOfferedLayout(offer, layout));

  offer.set_layout_hash(std::string(32, '\xab'));
  EXPECT_THAT(
      CheckOfferedLayout(offer, layout),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr(absl::StrCat("version 4 of job job-1: expected layout "
                                      "abababababab, found ",
                                      layout.hash().ToShortHex()))));
  offer.clear_layout_hash();
  EXPECT_THAT(
      CheckOfferedLayout(offer, layout),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("unnamed")));
}

}  // namespace
}  // namespace koinon::worker
