#include "services/inference/checkpoint_pin.h"

#include <unistd.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/text.h"

namespace bdh::inference {
namespace {

using Stub = v1::CheckpointAdminService::Stub;

constexpr absl::Duration kPinTimeout = absl::Seconds(10);
// Whoever loaded the model waits for this.
constexpr absl::Duration kUnpinTimeout = absl::Seconds(2);

// One process may load one checkpoint twice at once: each load holds its own pin.
std::string NewHolder() {
  char host[256] = "";
  gethostname(host, sizeof(host) - 1);
  return absl::StrFormat("bdh-inference on %s, process %d, load %s", host, getpid(), RandomHex(4));
}

}  // namespace

CheckpointPin::CheckpointPin(const mesh::Peer& store, std::string checkpoint, absl::Duration lease)
    : store_(store),
      stub_(v1::CheckpointAdminService::NewStub(store.channel())),
      checkpoint_(std::move(checkpoint)),
      holder_(NewHolder()),
      lease_(lease),
      thread_([this] { Run(); }) {}

CheckpointPin::~CheckpointPin() {
  {
    MutexLock lock(mutex_);
    done_ = true;
    if (call_ != nullptr) call_->TryCancel();
    changed_.NotifyAll();
  }
  thread_.join();
  if (!pinned_) return;
  v1::UnpinCheckpointRequest request;
  request.set_checkpoint(checkpoint_);
  request.set_holder(holder_);
  const auto status = store_.Call(*stub_, &Stub::UnpinCheckpoint, request, kUnpinTimeout).status();
  if (!status.ok()) {
    BDH_LOG(WARNING) << "the pin stays until its lease ends checkpoint=" << checkpoint_
                     << " error=" << status.message();
  }
}

void CheckpointPin::Run() {
  while (true) {
    const absl::Status status = Pin();
    // A call whose answer was not waited for may have pinned it.
    pinned_ |= status.ok() || absl::IsCancelled(status) || absl::IsDeadlineExceeded(status);
    if (!status.ok() && !absl::IsCancelled(status)) {
      BDH_LOG(DEBUG) << "not pinned checkpoint=" << checkpoint_ << " error=" << status.message();
    }
    // A store of before pins will not learn to while a model loads.
    if (absl::IsUnimplemented(status)) return;
    const absl::Time next = absl::Now() + lease_ / 3;
    MutexLock lock(mutex_);
    while (!done_ && absl::Now() < next) {
      changed_.WaitFor(mutex_, absl::ToChronoNanoseconds(next - absl::Now()));
    }
    if (done_) return;
  }
}

absl::Status CheckpointPin::Pin() {
  v1::PinCheckpointRequest request;
  request.set_reference(checkpoint_);
  request.set_holder(holder_);
  request.mutable_lease_duration()->set_seconds(absl::ToInt64Seconds(lease_));
  request.mutable_lease_duration()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(lease_ % absl::Seconds(1))));
  const auto context = store_.NewContext(kPinTimeout);
  {
    MutexLock lock(mutex_);
    if (done_) return absl::CancelledError("nobody reads any more");
    call_ = context.get();
  }
  v1::PinCheckpointResponse response;
  const absl::Status status = store_.Outcome(stub_->PinCheckpoint(context.get(), request, &response));
  MutexLock lock(mutex_);
  call_ = nullptr;
  return status;
}

}  // namespace bdh::inference
