#include "dht/swarm/content_board.h"

#include <utility>

namespace koinon::dht {
namespace {

Digest RootOf(const v1::Content& content) {
  return *Digest::FromBytes(content.root());  // a ContentFile has checked it
}

}  // namespace

void ContentBoard::Add(std::shared_ptr<ContentFile> content,
                       const Digest& file_digest) {
  const Digest root = RootOf(content->content());
  MutexLock lock(&mutex_);
  Entry& entry = entries_[root];
  entry.content = std::move(content);
  entry.file_digest = file_digest;
}

void ContentBoard::Remove(const Digest& root) {
  Entry removed;  // owns what must not die under the lock
  MutexLock lock(&mutex_);
  const auto it = entries_.find(root);
  if (it == entries_.end()) return;
  removed = std::move(it->second);
  for (const auto& [id, listener] : removed.listeners) listening_.erase(id);
  entries_.erase(it);
}

std::shared_ptr<ContentFile> ContentBoard::Find(const Digest& root) const {
  MutexLock lock(&mutex_);
  const auto it = entries_.find(root);
  return it == entries_.end() ? nullptr : it->second.content;
}

std::vector<Digest> ContentBoard::roots() const {
  MutexLock lock(&mutex_);
  std::vector<Digest> roots;
  for (const auto& [root, entry] : entries_) roots.push_back(root);
  return roots;
}

uint64_t ContentBoard::Listen(const Digest& root, Listener listener) {
  MutexLock lock(&mutex_);
  const uint64_t id = next_listener_++;
  const auto it = entries_.find(root);
  if (it == entries_.end()) return id;  // nothing will come
  it->second.listeners[id] = std::move(listener);
  listening_[id] = root;
  return id;
}

void ContentBoard::Unlisten(uint64_t listener) {
  Listener dropped;  // may own what must not die under the lock
  MutexLock lock(&mutex_);
  const auto root = listening_.find(listener);
  if (root == listening_.end()) return;
  auto& listeners = entries_[root->second].listeners;
  dropped = std::move(listeners[listener]);
  listeners.erase(listener);
  listening_.erase(root);
}

void ContentBoard::OnPiece(const Digest& root, uint32_t piece) {
  std::vector<Listener> listeners;
  {
    MutexLock lock(&mutex_);
    const auto it = entries_.find(root);
    if (it == entries_.end()) return;
    for (const auto& [id, listener] : it->second.listeners) {
      listeners.push_back(listener);
    }
  }
  for (const Listener& listener : listeners) listener(piece);
}

void ContentBoard::SetOthers(Others others) {
  MutexLock lock(&mutex_);
  others_ = std::move(others);
}

std::vector<Contact> ContentBoard::OthersOf(const Digest& root) const {
  Others others;
  {
    MutexLock lock(&mutex_);
    others = others_;
  }
  return others ? others(root) : std::vector<Contact>();
}

void ContentBoard::OnGone(const Key& node) {
  std::function<void(const Key&)> listener;
  {
    MutexLock lock(&mutex_);
    listener = gone_listener_;
  }
  if (listener) listener(node);
}

void ContentBoard::ListenToGone(std::function<void(const Key& node)> listener) {
  MutexLock lock(&mutex_);
  gone_listener_ = std::move(listener);
}

void ContentBoard::CountFetched(const v1::SwarmTraffic& traffic) {
  MutexLock lock(&mutex_);
  traffic_.set_from_peers(traffic_.from_peers() + traffic.from_peers());
  traffic_.set_from_origin(traffic_.from_origin() + traffic.from_origin());
  traffic_.set_wasted(traffic_.wasted() + traffic.wasted());
}

void ContentBoard::CountServed(int64_t bytes) {
  MutexLock lock(&mutex_);
  traffic_.set_to_peers(traffic_.to_peers() + bytes);
}

void ContentBoard::CountLost() {
  MutexLock lock(&mutex_);
  ++lost_;
}

int64_t ContentBoard::lost() const {
  MutexLock lock(&mutex_);
  return lost_;
}

v1::SwarmTraffic ContentBoard::traffic() const {
  MutexLock lock(&mutex_);
  return traffic_;
}

}  // namespace koinon::dht
