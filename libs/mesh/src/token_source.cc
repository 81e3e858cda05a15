#include "token_source.h"

#include "absl/time/clock.h"
#include "bdh/base/log.h"
#include "bdh/base/status_macros.h"

namespace bdh::mesh {
namespace {

constexpr absl::Duration kLookEvery = absl::Seconds(1);

bool Same(const struct stat& a, const struct stat& b) {
  return a.st_ino == b.st_ino && a.st_size == b.st_size && a.st_mode == b.st_mode &&
         a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenSource>> TokenSource::Open(const std::string& file) {
  auto source = std::make_unique<TokenSource>(Tokens());
  source->file_ = file;
  MutexLock lock(source->mutex_);
  stat(file.c_str(), &source->seen_);  // First, so that a change while we read is seen as one.
  BDH_ASSIGN_OR_RETURN(Tokens tokens, ReadTokens(file));
  source->tokens_ = std::make_shared<const Tokens>(std::move(tokens));
  source->looked_ = absl::Now();
  return source;
}

std::shared_ptr<const Tokens> TokenSource::Get() {
  MutexLock lock(mutex_);
  if (!file_.empty() && absl::Now() - looked_ >= kLookEvery) Refresh();
  return tokens_;
}

void TokenSource::Refresh() {
  looked_ = absl::Now();
  struct stat now = {};
  stat(file_.c_str(), &now);
  if (Same(now, seen_)) return;
  seen_ = now;
  auto tokens = ReadTokens(file_);
  if (!tokens.ok()) {
    BDH_LOG(WARNING) << "the token file cannot be used, so the tokens of before hold: "
                     << tokens.status().message();
    return;
  }
  BDH_LOG(INFO) << "tokens read again count=" << tokens->size();
  tokens_ = std::make_shared<const Tokens>(*std::move(tokens));
}

}  // namespace bdh::mesh
