#include "kernels/onednn/builder.h"

#include <algorithm>

#include "kernels/onednn/rounding.h"

namespace koinon::kernels::onednn {

using dnnl::memory;

Builder::Builder(const dnnl::engine& engine, const ModelLayout& layout,
                 const Options& options)
    : engine_(engine), layout_(layout), options_(options) {
  attributes_.set_scratchpad_mode(dnnl::scratchpad_mode::user);
}

size_t Builder::Offset(int index) const {
  return layout_.offset_bytes(index) / sizeof(float);
}

float* Builder::ParameterData(int index) const {
  const auto substitute = substitutes_.find(index);
  if (substitute != substitutes_.end()) return Data(substitute->second);
  return options_.parameters + Offset(index);
}

float* Builder::GradientData(int index) const {
  return options_.gradients + Offset(index);
}

memory Builder::Parameter(int index, const memory::desc& desc) const {
  return memory(desc, engine_, ParameterData(index));
}

memory Builder::Gradient(int index, const memory::desc& desc) const {
  return memory(desc, engine_, GradientData(index));
}

memory Builder::InFormat(const memory& from, const memory::desc& desc,
                         Program* program) {
  if (from.get_desc() == desc) return from;
  memory to = NewMemory(desc);
  AddReorder(from, to, program);
  if (IsRounded(from)) MarkRounded(to);
  return to;
}

memory Builder::Reshape(const memory& from, const memory::desc& desc) {
  memory to = View(from, desc);
  if (IsRounded(from)) MarkRounded(to);
  return to;
}

memory Builder::ForProduct(const memory& from, Program* program) {
  if (!rounds() || IsRounded(from)) return from;
  memory to = NewMemory(from.get_desc());
  const size_t count = from.get_desc().get_size() / sizeof(float);
  program->AddKernel([from, to, count](const StepContext& context) {
    RoundToBfloat16(context.threads, count, Data(from), Data(to));
  });
  return to;
}

void Builder::AddReorder(const memory& from, const memory& to,
                         Program* program) {
  const dnnl::reorder::primitive_desc description(
      engine_, from.get_desc(), engine_, to.get_desc(), attributes_);
  Add<dnnl::reorder>("reorder", description,
                     {{DNNL_ARG_FROM, from}, {DNNL_ARG_TO, to}}, program);
}

memory Builder::SharedScratchpad(const memory::desc& desc) {
  scratchpads_.push_back(memory(desc, engine_, DNNL_MEMORY_NONE));
  return scratchpads_.back();
}

void Builder::Finish() {
  const memory* largest = nullptr;
  for (const memory& pad : scratchpads_) {
    if (largest == nullptr ||
        pad.get_desc().get_size() > largest->get_desc().get_size()) {
      largest = &pad;
    }
  }
  if (largest == nullptr || largest->get_desc().get_size() == 0) return;
  scratchpad_ = memory(largest->get_desc(), engine_);
  for (memory& pad : scratchpads_) {
    pad.set_data_handle(scratchpad_.get_data_handle());
  }
}

bool SinglePrecisionIsFaster() {
#if defined(__x86_64__)
  return dnnl::get_effective_cpu_isa() != dnnl::cpu_isa::avx512_core_amx &&
         __builtin_cpu_is("intel");
#else
  return false;
#endif
}

memory::desc PlainDesc(const memory::dims& dims, memory::data_type type) {
  using Tag = memory::format_tag;
  constexpr Tag kTags[] = {Tag::a, Tag::ab, Tag::abc, Tag::abcd, Tag::abcde};
  return memory::desc(dims, type, kTags[dims.size() - 1]);
}

memory::desc PlainDesc(int64_t batch, const std::vector<int64_t>& shape,
                       memory::data_type type) {
  memory::dims dims = {batch};
  dims.insert(dims.end(), shape.begin(), shape.end());
  return PlainDesc(dims, type);
}

memory::desc AnyFormat(const memory::desc& desc) {
  // A tensor that is not there has no format.
  if (desc.is_zero()) return desc;
  return memory::desc(desc.dims(), desc.data_type(), memory::format_tag::any);
}

float* Data(const memory& memory) {
  return static_cast<float*>(memory.get_data_handle());
}

memory View(const memory& from, const memory::desc& desc) {
  return memory(desc, from.get_engine(), from.get_data_handle());
}

}  // namespace koinon::kernels::onednn
