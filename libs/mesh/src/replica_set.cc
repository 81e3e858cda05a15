#include "bdh/mesh/replica_set.h"

#include <arpa/inet.h>
#include <grpcpp/grpcpp.h>
#include <netdb.h>
#include <netinet/in.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "bdh/base/address.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/status_util.h"
#include "bdh/mesh/grpc_status.h"
#include "connect.h"

namespace bdh::mesh {
namespace {

// With Affinity::kSpread a replica may have a quarter more calls than the mean, and a few in any case.
constexpr double kLoadFactor = 1.25;
constexpr int kLoadAlways = 4;

// FNV-1a with a last mix: the same in every process, so that all gateways send a key to the same replica.
uint64_t Hash(std::string_view a, std::string_view b) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const std::string_view text : {a, b}) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    hash = (hash ^ 0xff) * 0x100000001b3;
  }
  hash ^= hash >> 33;
  hash *= 0xff51afd7ed558ccd;
  return hash ^ (hash >> 33);
}

absl::Status AppendAddresses(const HostPort& at, std::set<Endpoint>& endpoints) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(at.host.c_str(), std::to_string(at.port).c_str(), &hints, &found);
  if (error != 0) return absl::UnavailableError(absl::StrFormat("%s: %s", at.host, gai_strerror(error)));
  const absl::Cleanup freer = [found] { freeaddrinfo(found); };
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    char text[INET6_ADDRSTRLEN] = "";
    const bool ipv6 = one->ai_family == AF_INET6;
    const void* address =
        ipv6 ? static_cast<const void*>(&reinterpret_cast<const sockaddr_in6*>(one->ai_addr)->sin6_addr)
             : static_cast<const void*>(&reinterpret_cast<const sockaddr_in*>(one->ai_addr)->sin_addr);
    inet_ntop(one->ai_family, address, text, sizeof(text));
    endpoints.insert({.address = HostPort{text, at.port}.ToString(), .host = at.host});
  }
  return absl::OkStatus();
}

std::string GrpcTarget(const std::string& address) {
  return (address[0] == '[' ? "ipv6:" : "ipv4:") + address;
}

// What says that the replica is at fault, not the request.
bool Blames(const grpc::Status& status) {
  switch (status.error_code()) {
    case grpc::StatusCode::UNAVAILABLE:
    case grpc::StatusCode::INTERNAL:
    case grpc::StatusCode::UNKNOWN:
    case grpc::StatusCode::DATA_LOSS:
      return true;
    default:
      return false;
  }
}

}  // namespace

absl::StatusOr<std::vector<Endpoint>> ResolveTarget(std::string_view target) {
  for (const std::string_view scheme : {"dns:///", "dns:", "ipv4:", "ipv6:"}) {
    if (target.starts_with(scheme)) {
      target.remove_prefix(scheme.size());
      break;
    }
  }
  std::set<Endpoint> endpoints;
  absl::Status failure;
  for (const absl::string_view part : absl::StrSplit(absl::string_view(target.data(), target.size()), ',')) {
    BDH_ASSIGN_OR_RETURN(const HostPort at, ParseHostPort({part.data(), part.size()}));
    const absl::Status status = AppendAddresses(at, endpoints);
    if (!status.ok()) failure = status;
  }
  // One name that is gone does not take the others with it.
  if (endpoints.empty()) return failure;
  return std::vector<Endpoint>(endpoints.begin(), endpoints.end());
}

ReplicaSet::Replica::Replica(Endpoint endpoint, std::shared_ptr<grpc::Channel> channel,
                             const Options& options)
    : endpoint_(std::move(endpoint)),
      channel_(std::move(channel)),
      failures_to_eject_(options.failures_to_eject),
      first_ejection_(options.first_ejection),
      longest_ejection_(options.longest_ejection) {}

void ReplicaSet::Replica::Report(const grpc::Status& status) {
  MutexLock lock(mutex_);
  if (!Blames(status)) {
    failures_ = 0;
    if (status.ok()) ejections_ = 0;
    return;
  }
  if (++failures_ < failures_to_eject_) return;
  failures_ = 0;
  const int doublings = std::min(ejections_++, 16);
  const absl::Duration pause = std::min(first_ejection_ * (1 << doublings), longest_ejection_);
  ejected_until_ = absl::Now() + pause;
  BDH_LOG(WARNING) << "replica left out for a while address=" << endpoint_.address
                   << " for=" << absl::FormatDuration(pause) << " error=" << status.error_message();
}

bool ReplicaSet::Replica::ejected(absl::Time now) const {
  MutexLock lock(mutex_);
  return now < ejected_until_;
}

int ReplicaSet::Replica::Fitness() const {
  switch (channel_->GetState(/*try_to_connect=*/true)) {
    case GRPC_CHANNEL_READY:
      return 2;
    case GRPC_CHANNEL_IDLE:
    case GRPC_CHANNEL_CONNECTING:
      return 1;
    default:
      return 0;
  }
}

ReplicaSet::ReplicaSet(std::string daemon, std::string target, Options options)
    : options_(std::move(options)),
      peer_(std::move(daemon), std::move(target), options_.credentials, options_.max_message_bytes) {
  auto endpoints = options_.resolve(peer_.address());
  {
    MutexLock lock(mutex_);
    resolved_ = endpoints.status();
  }
  if (endpoints.ok()) Update(*std::move(endpoints));
  resolver_ = std::thread([this] { ResolveAgain(); });
}

ReplicaSet::~ReplicaSet() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
    wake_.NotifyAll();
  }
  resolver_.join();
}

void ReplicaSet::ResolveAgain() {
  while (true) {
    {
      MutexLock lock(mutex_);
      const absl::Time until = absl::Now() + options_.resolve_every;
      while (!stopping_ && absl::Now() < until) {
        wake_.WaitFor(mutex_, absl::ToChronoNanoseconds(until - absl::Now()));
      }
      if (stopping_) return;
    }
    auto endpoints = options_.resolve(peer_.address());
    if (endpoints.ok()) {
      Update(*std::move(endpoints));
    } else {
      // Replicas that were found before may well be there still.
      MutexLock lock(mutex_);
      resolved_ = endpoints.status();
    }
  }
}

void ReplicaSet::Update(std::vector<Endpoint> endpoints) {
  std::vector<std::shared_ptr<Replica>> before;
  {
    MutexLock lock(mutex_);
    before = replicas_;
  }
  std::vector<std::shared_ptr<Replica>> after;
  for (Endpoint& endpoint : endpoints) {
    const auto known = std::find_if(before.begin(), before.end(),
                                    [&](const auto& one) { return one->endpoint_ == endpoint; });
    if (known != before.end()) {
      after.push_back(*known);
      continue;
    }
    const auto channel =
        Connect(GrpcTarget(endpoint.address), {.daemon = peer_.daemon(),
                                               .credentials = options_.credentials,
                                               .max_message_bytes = options_.max_message_bytes,
                                               .host = endpoint.host,
                                               .health_service = options_.health_service});
    channel->GetState(/*try_to_connect=*/true);
    BDH_LOG(INFO) << "replica found daemon=" << peer_.daemon() << " address=" << endpoint.address;
    after.push_back(std::make_shared<Replica>(std::move(endpoint), channel, options_));
  }
  for (const auto& one : before) {
    if (std::find(after.begin(), after.end(), one) == after.end())
      BDH_LOG(INFO) << "replica gone daemon=" << peer_.daemon() << " address=" << one->address();
  }
  MutexLock lock(mutex_);
  resolved_ = absl::OkStatus();
  replicas_ = std::move(after);
}

absl::StatusOr<std::shared_ptr<ReplicaSet::Replica>> ReplicaSet::Choose(std::string_view key,
                                                                        Affinity affinity) {
  std::vector<std::shared_ptr<Replica>> replicas;
  {
    MutexLock lock(mutex_);
    if (replicas_.empty())
      return Annotate(resolved_, absl::StrFormat("find %s at %s", peer_.daemon(), peer_.address()));
    replicas = replicas_;
  }
  // Highest random weight: each key has its own order of replicas, and one that goes leaves the rest as it
  // was.
  struct Candidate {
    bool in_use;
    int fitness;
    uint64_t weight;
    std::shared_ptr<Replica> replica;
  };
  std::vector<Candidate> candidates;
  const absl::Time now = absl::Now();
  int calls = 0;
  for (auto& replica : replicas) {
    calls += replica->calls_;
    candidates.push_back(
        {!replica->ejected(now), replica->Fitness(), Hash(key, replica->address()), replica});
  }
  std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
    return std::tie(a.in_use, a.fitness, a.weight) > std::tie(b.in_use, b.fitness, b.weight);
  });
  const Candidate* chosen = &candidates.front();
  if (affinity == Affinity::kSpread) {
    const double fair = kLoadFactor * (calls + 1) / static_cast<double>(candidates.size());
    for (const Candidate& candidate : candidates) {
      if (candidate.in_use != chosen->in_use || candidate.fitness != candidates.front().fitness) break;
      if (candidate.replica->calls_ >= std::max<double>(kLoadAlways, fair)) continue;
      chosen = &candidate;
      break;
    }
  }
  const auto replica = chosen->replica;
  ++replica->calls_;
  return std::shared_ptr<Replica>(replica.get(), [replica](Replica*) { --replica->calls_; });
}

std::vector<ReplicaSet::State> ReplicaSet::States() const {
  MutexLock lock(mutex_);
  std::vector<State> states;
  for (const auto& one : replicas_) {
    states.push_back({one->address(), one->Fitness() == 2, one->ejected(absl::Now()), one->calls_});
  }
  return states;
}

}  // namespace bdh::mesh
