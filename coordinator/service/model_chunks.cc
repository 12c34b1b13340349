#include "coordinator/service/model_chunks.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "base/digest.h"
#include "base/status_macros.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "grpcpp/support/slice.h"
#include "proto/worker.pb.h"

namespace koinon::coordinator {
namespace {

using google::protobuf::io::CodedOutputStream;

// Length-delimited field: number << 3 | 2.
constexpr uint32_t LengthDelimited(int field) { return field << 3 | 2; }
constexpr uint32_t Varint(int field) { return field << 3; }

// All of a PullModelReply with a chunk but the chunk's data, which comes last.
std::string EncodeChunkPrefix(int64_t offset, size_t data_size) {
  std::string chunk;
  {
    google::protobuf::io::StringOutputStream stream(&chunk);
    CodedOutputStream out(&stream);
    out.WriteVarint32(Varint(v1::Chunk::kOffsetFieldNumber));
    out.WriteVarint64(static_cast<uint64_t>(offset));
    out.WriteVarint32(LengthDelimited(v1::Chunk::kDataFieldNumber));
    out.WriteVarint64(data_size);
  }
  std::string prefix;
  {
    google::protobuf::io::StringOutputStream stream(&prefix);
    CodedOutputStream out(&stream);
    out.WriteVarint32(LengthDelimited(v1::PullModelReply::kChunkFieldNumber));
    out.WriteVarint64(chunk.size() + data_size);
  }
  return prefix + chunk;
}

// Data that lives as long as the last slice that refers to it.
grpc::Slice OwningSlice(std::unique_ptr<std::string> data) {
  std::string* const raw = data.release();
  return grpc::Slice(
      raw->data(), raw->size(),
      [](void* owner) { delete static_cast<std::string*>(owner); }, raw);
}

}  // namespace

absl::StatusOr<grpc::ByteBuffer> ModelChunks::Get(
    const v1::ModelManifest& manifest, int64_t index) {
  const Key key(manifest.digest(), index);
  // Held while loading: of many that ask for one chunk, one reads it.
  MutexLock lock(&mutex_);
  const auto it = index_.find(key);
  if (it != index_.end()) {
    recent_.splice(recent_.begin(), recent_, it->second);
    return it->second->message;
  }
  ABSL_ASSIGN_OR_RETURN(grpc::ByteBuffer message, Load(manifest, index));
  held_bytes_ += message.Length();
  recent_.push_front({key, message, message.Length()});
  index_[key] = recent_.begin();
  while (held_bytes_ > cache_bytes_ && recent_.size() > 1) {
    held_bytes_ -= recent_.back().bytes;
    index_.erase(recent_.back().key);
    recent_.pop_back();
  }
  return message;
}

absl::StatusOr<grpc::ByteBuffer> ModelChunks::Load(
    const v1::ModelManifest& manifest, int64_t index) const {
  ABSL_ASSIGN_OR_RETURN(const ModelStore::Version version,
                        store_->Open(manifest));
  const int64_t offset = index * manifest.chunk_size_bytes();
  const int64_t size =
      std::min(manifest.chunk_size_bytes(), manifest.size_bytes() - offset);
  auto data = std::make_unique<std::string>(size, '\0');
  ABSL_RETURN_IF_ERROR(version.file->ReadAt(offset, size, data->data()));
  if (Sha256Of(*data).ToBytes() !=
      manifest.chunk_digests(static_cast<int>(index))) {
    return absl::DataLossError(absl::StrCat(
        store_->PathOf(manifest.job(), manifest.version()), ": chunk ", index,
        " (at byte ", offset, ") is not what was published"));
  }
  const std::string prefix = EncodeChunkPrefix(offset, data->size());
  const grpc::Slice slices[] = {grpc::Slice(prefix),
                                OwningSlice(std::move(data))};
  return grpc::ByteBuffer(slices, 2);
}

}  // namespace koinon::coordinator
