#pragma once

namespace bdh::mesh {

// Both ends ask a silent connection whether it is still there, the caller only while it has a call.
inline constexpr int kKeepaliveMs = 20'000, kKeepaliveTimeoutMs = 10'000;
// More often than this is taken for an attack.
inline constexpr int kPingIntervalMinMs = 10'000;

}  // namespace bdh::mesh
