#ifndef SNAPKEEPER_COMMON_BASE_CALL_H_
#define SNAPKEEPER_COMMON_BASE_CALL_H_

#include <absl/functional/any_invocable.h>

#include <utility>

namespace snapkeeper {

// Something under way. Destroying it (or moving over it) cancels: no callback of it runs
// afterwards. Loop thread only. A default-constructed or finished Call does nothing. It is allowed
// to destroy a Call from within its own callback.
class [[nodiscard]] Call {
 public:
  Call() = default;
  explicit Call(absl::AnyInvocable<void()> cancel) : cancel_(std::move(cancel)) {}
  Call(Call&& other) noexcept : cancel_(std::exchange(other.cancel_, nullptr)) {}
  Call& operator=(Call&& other) noexcept {
    Call old(std::move(*this));
    cancel_ = std::exchange(other.cancel_, nullptr);
    return *this;
  }
  ~Call() {
    if (cancel_) cancel_();
  }

 private:
  absl::AnyInvocable<void()> cancel_;
};

}  // namespace snapkeeper

#endif  // SNAPKEEPER_COMMON_BASE_CALL_H_
