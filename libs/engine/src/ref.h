// A counted reference to something that several states may hold. Unlike std::shared_ptr it can say for sure
// that nobody else holds it: what others did with it before they let go has then happened.
#pragma once

#include <atomic>
#include <utility>

namespace bdh::engine {

// Base of what is counted.
class Counted {
 private:
  template <class T>
  friend class Ref;
  std::atomic<int> owners_{0};
};

template <class T>
class Ref {
 public:
  Ref() = default;
  explicit Ref(T* object) : object_(object) { Take(); }
  Ref(const Ref& other) : object_(other.object_) { Take(); }
  Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Ref& operator=(Ref other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Ref() {
    if (object_ != nullptr && object_->owners_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete object_;
  }

  bool is_mine_alone() const { return object_->owners_.load(std::memory_order_acquire) == 1; }
  T* get() const { return object_; }
  T* operator->() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }

 private:
  void Take() {
    if (object_ != nullptr) object_->owners_.fetch_add(1, std::memory_order_relaxed);
  }
  T* object_ = nullptr;
};

}  // namespace bdh::engine
