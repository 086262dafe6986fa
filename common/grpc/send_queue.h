#ifndef SNAPKEEPER_COMMON_GRPC_SEND_QUEUE_H_
#define SNAPKEEPER_COMMON_GRPC_SEND_QUEUE_H_

#include <cstddef>
#include <deque>
#include <utility>

namespace snapkeeper {

// The messages of one stream: gRPC writes one at a time, and reads it until the write is done.
// Guarded by the stream's mutex.
template <class Message>
class SendQueue {
 public:
  // Much more than executors send within the 15 s after which either side gives up a peer that does
  // not read.
  static constexpr size_t kLimit = 1 << 15;

  // The message to write now; null: another one is being written.
  const Message* Push(Message message) {
    waiting_.push_back(std::move(message));
    return waiting_.size() == 1 ? &waiting_.front() : nullptr;
  }
  // The write is done: the message to write next, if any.
  const Message* Next() {
    waiting_.pop_front();
    return empty() ? nullptr : &waiting_.front();
  }
  // Drops what is not being written yet.
  void DropRest() {
    if (waiting_.size() > 1) waiting_.erase(waiting_.begin() + 1, waiting_.end());
  }
  bool empty() const { return waiting_.empty(); }
  bool full() const { return waiting_.size() >= kLimit; }

 private:
  std::deque<Message> waiting_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_GRPC_SEND_QUEUE_H_
