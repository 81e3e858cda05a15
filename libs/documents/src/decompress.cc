#include <zlib.h>
#include <zstd.h>

#include <utility>

#include "absl/strings/str_format.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"
#include "input.h"

namespace bdh::documents {
namespace {

constexpr size_t kOutBytes = size_t{256} << 10;

absl::Status CutShort(std::string_view name, std::string_view kind) {
  return absl::DataLossError(absl::StrFormat(
      "%s: the %s data ends before its end: the file was cut short; fetch or make it again", name, kind));
}

class Gunzip : public ByteStream {
 public:
  Gunzip(ByteStream& from, std::string name) : from_(from), name_(std::move(name)), out_(kOutBytes, '\0') {
    constexpr int kGzipOnly = 16;
    BDH_CHECK(inflateInit2(&state_, kGzipOnly + MAX_WBITS) == Z_OK) << "no memory for zlib";
  }
  ~Gunzip() override { inflateEnd(&state_); }

  absl::StatusOr<std::string_view> Read() override {
    while (true) {
      if (state_.avail_in == 0 && !ended_) BDH_RETURN_IF_ERROR(More());
      if (between_members_) {
        // Some tools pad with zeros behind the last member.
        while (state_.avail_in > 0 && *state_.next_in == 0) ++state_.next_in, --state_.avail_in;
        if (state_.avail_in == 0 && ended_) return std::string_view();
        if (state_.avail_in == 0) continue;
        between_members_ = false;
      }
      state_.next_out = reinterpret_cast<Bytef*>(out_.data());
      state_.avail_out = static_cast<uInt>(out_.size());
      const int result = inflate(&state_, Z_NO_FLUSH);
      const size_t got = out_.size() - state_.avail_out;
      if (result == Z_STREAM_END) {
        between_members_ = true;
        BDH_CHECK(inflateReset(&state_) == Z_OK);
      } else if (result == Z_BUF_ERROR || (result == Z_OK && got == 0)) {
        if (ended_ && state_.avail_in == 0) return CutShort(name_, "gzip");
      } else if (result != Z_OK) {
        return absl::DataLossError(
            absl::StrFormat("%s: the gzip data is damaged (%s); fetch or make it again", name_,
                            state_.msg != nullptr ? state_.msg : "no reason given"));
      }
      if (got > 0) return std::string_view(out_).substr(0, got);
    }
  }

 private:
  absl::Status More() {
    BDH_ASSIGN_OR_RETURN(const std::string_view in, from_.Read());
    ended_ = in.empty();
    state_.next_in = const_cast<Bytef*>(reinterpret_cast<const Bytef*>(in.data()));
    state_.avail_in = static_cast<uInt>(in.size());
    return absl::OkStatus();
  }

  ByteStream& from_;
  const std::string name_;
  std::string out_;
  z_stream state_ = {};
  bool ended_ = false;
  bool between_members_ = false;
};

class Unzstd : public ByteStream {
 public:
  Unzstd(ByteStream& from, std::string name)
      : from_(from), name_(std::move(name)), state_(ZSTD_createDStream()), out_(kOutBytes, '\0') {
    BDH_CHECK(state_ != nullptr) << "no memory for zstd";
  }
  ~Unzstd() override { ZSTD_freeDStream(state_); }

  absl::StatusOr<std::string_view> Read() override {
    while (true) {
      if (in_.pos == in_.size && !ended_ && !more_out_) {
        BDH_ASSIGN_OR_RETURN(const std::string_view in, from_.Read());
        ended_ = in.empty();
        in_ = {in.data(), in.size(), 0};
      }
      if (ended_ && !more_out_) {
        if (in_frame_) return CutShort(name_, "zstd");
        return std::string_view();
      }
      ZSTD_outBuffer out = {out_.data(), out_.size(), 0};
      const size_t had = in_.pos;
      const size_t result = ZSTD_decompressStream(state_, &out, &in_);
      if (ZSTD_isError(result)) {
        return absl::DataLossError(absl::StrFormat(
            "%s: the zstd data is damaged or made with a window over 128 MiB (%s); fetch or make it "
            "again, with --long=27 at most",
            name_, ZSTD_getErrorName(result)));
      }
      // Asked without input after a frame, it speaks of the next one.
      if (in_.pos > had || out.pos > 0) in_frame_ = result != 0;
      more_out_ = out.pos == out.size;
      if (out.pos > 0) return std::string_view(out_).substr(0, out.pos);
    }
  }

 private:
  ByteStream& from_;
  const std::string name_;
  ZSTD_DStream* const state_;
  std::string out_;
  ZSTD_inBuffer in_ = {nullptr, 0, 0};
  bool ended_ = false;
  bool in_frame_ = false;
  bool more_out_ = false;  // The output was full: there may be more of it without more input.
};

}  // namespace

std::unique_ptr<ByteStream> GunzipStream(ByteStream& from, std::string name) {
  return std::make_unique<Gunzip>(from, std::move(name));
}

std::unique_ptr<ByteStream> UnzstdStream(ByteStream& from, std::string name) {
  return std::make_unique<Unzstd>(from, std::move(name));
}

}  // namespace bdh::documents
