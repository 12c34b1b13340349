#ifndef KOINON_KERNELS_GRAPH_MAKE_LAYER_H_
#define KOINON_KERNELS_GRAPH_MAKE_LAYER_H_

#include <cstdint>

#include "proto/model.pb.h"

namespace koinon::kernels {

// The words that presets are written in.

inline v1::Layer DenseLayer(int64_t units) {
  v1::Layer layer;
  layer.mutable_dense()->set_units(units);
  return layer;
}

inline v1::Layer ActivationLayer(v1::Layer::Activation kind) {
  v1::Layer layer;
  layer.set_activation(kind);
  return layer;
}

inline v1::Layer FlattenLayer() {
  v1::Layer layer;
  layer.mutable_flatten();
  return layer;
}

inline v1::Layer DropoutLayer(double rate) {
  v1::Layer layer;
  layer.mutable_dropout()->set_rate(rate);
  return layer;
}

inline v1::Layer LayerNormLayer() {
  v1::Layer layer;
  layer.mutable_layer_norm();
  return layer;
}

inline v1::Layer GlobalAveragePoolLayer() {
  v1::Layer layer;
  layer.mutable_global_average_pool();
  return layer;
}

inline v1::Layer SqueezeExciteLayer(int64_t hidden) {
  v1::Layer layer;
  layer.mutable_squeeze_excite()->set_hidden(hidden);
  return layer;
}

// An odd kernel, padded so that at stride 1 the image keeps its size.
inline v1::Layer SameSizeConvolution(int64_t channels, int64_t kernel) {
  v1::Layer layer;
  auto* conv = layer.mutable_conv2d();
  conv->set_channels(channels);
  conv->set_kernel(kernel);
  conv->set_padding(kernel / 2);
  return layer;
}

}  // namespace koinon::kernels

#endif  // KOINON_KERNELS_GRAPH_MAKE_LAYER_H_
