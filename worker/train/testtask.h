#ifndef KOINON_WORKER_TRAIN_TESTTASK_H_
#define KOINON_WORKER_TRAIN_TESTTASK_H_

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/env.h"
#include "base/model_layout.h"
#include "base/random.h"
#include "base/safetensors.h"
#include "base/status_matchers.h"
#include "kernels/graph/model_graph.h"
#include "proto/worker.pb.h"
#include "worker/data/dataset.h"
#include "worker/data/testdata.h"

namespace koinon::worker::testtask {

// A task to train on, made inside tests.

// `count` points around `classes` centres on a circle of radius 4, with
// standard deviation 0.5: classes that a linear model separates.
inline Dataset Blobs(size_t count, int classes, uint64_t seed) {
  Dataset data;
  data.name = "blobs";
  data.shape = {2};
  Random random(seed);
  for (size_t i = 0; i < count; ++i) {
    const int label = static_cast<int>(i % classes);
    const double angle = 2 * 3.14159265358979 * label / classes;
    data.features.push_back(
        static_cast<float>(4 * std::cos(angle) + 0.5 * random.NextNormal()));
    data.features.push_back(
        static_cast<float>(4 * std::sin(angle) + 0.5 * random.NextNormal()));
    data.labels.push_back(label);
  }
  return data;
}

inline LocalDatasets BlobDatasets() {
  LocalDatasets datasets;
  datasets["blobs"].train = Blobs(200, 3, 1);
  datasets["blobs"].held_out = Blobs(90, 3, 2);
  return datasets;
}

// Logistic regression over the blobs: 5 epochs of SGD.
inline v1::OfferTask BlobOffer() {
  v1::OfferTask offer;
  offer.mutable_task()->set_job("blobs-1");
  offer.mutable_task()->set_round(1);
  offer.mutable_task()->set_kind(v1::TaskRef::TRAIN);
  offer.set_dataset("blobs");
  offer.mutable_model()->add_input_shape(2);
  offer.mutable_model()->mutable_logistic_regression()->set_classes(3);
  offer.mutable_training()->set_epochs(5);
  offer.mutable_training()->set_batch_size(16);
  offer.mutable_training()
      ->mutable_optimizer()
      ->mutable_sgd()
      ->set_learning_rate(0.1);
  offer.set_seed(7);
  return offer;
}

inline Model InitialModel(const v1::ModelSpec& spec) {
  const auto graph = kernels::ModelGraph::Build(spec);
  EXPECT_OK(graph);
  Model model;
  model.layout = graph->layout();
  model.values.resize(model.layout.total_elements());
  graph->InitializeParameters(3, 0, absl::MakeSpan(model.values));
  return model;
}

// Writes the offer's initial model, names its layout in the offer, and returns
// the file's path.
inline std::string WriteBase(v1::OfferTask* offer) {
  const Model model = InitialModel(offer->model());
  offer->set_layout_hash(model.layout.hash().ToBytes());
  const std::string path = testdata::TempPath("base.safetensors");
  EXPECT_OK(WriteModel(RealEnv(), path, model));
  return path;
}

inline std::vector<float> ReadFloats(const std::string& path) {
  const auto bytes = ReadFile(RealEnv(), path, 1 << 30);
  EXPECT_OK(bytes);
  std::vector<float> values(bytes.ok() ? bytes->size() / sizeof(float) : 0);
  if (!values.empty()) {
    std::memcpy(values.data(), bytes->data(), values.size() * sizeof(float));
  }
  return values;
}

}  // namespace koinon::worker::testtask

#endif  // KOINON_WORKER_TRAIN_TESTTASK_H_
