// Certificates that are made say what was asked for, hold together, and lie in files that others cannot read.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/certs/certificate.h"
#include "bdh/certs/folder.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"

namespace bdh::certs {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Certificate, SaysWhatWasAskedFor) {
  BDH_ASSERT_OK_AND_ASSIGN(const Pair authority, MakeAuthority("the authority", DaysFromNow(10)));
  const absl::Time from = absl::FromUnixSeconds(1'700'000'000), until = from + absl::Hours(5);
  BDH_ASSERT_OK_AND_ASSIGN(
      const Pair pair,
      Issue(authority, {"bdh-store", {"localhost", "127.0.0.1", "::1", "bdh-store"}}, {from, until}));
  BDH_ASSERT_OK_AND_ASSIGN(const Description said, Describe(pair.certificate));
  EXPECT_EQ(said.name, "bdh-store");
  EXPECT_EQ(said.issuer, "the authority");
  EXPECT_THAT(said.hosts, ElementsAre("bdh-store", "localhost", "127.0.0.1", "::1"));
  EXPECT_TRUE(said.AnswersTo("localhost"));
  EXPECT_FALSE(said.AnswersTo("local"));
  EXPECT_EQ(said.validity.from, from);
  EXPECT_EQ(said.validity.until, until);
  EXPECT_FALSE(said.is_authority);
  EXPECT_EQ(said.fingerprint.size(), 64u);
  BDH_ASSERT_OK_AND_ASSIGN(const Description top, Describe(authority.certificate));
  EXPECT_TRUE(top.is_authority);
  EXPECT_NE(top.serial, said.serial);
}

TEST(Certificate, BelongsToItsKeyAndItsAuthorityAndToNoOther) {
  BDH_ASSERT_OK_AND_ASSIGN(const Pair ours, MakeAuthority("same name", DaysFromNow(1)));
  BDH_ASSERT_OK_AND_ASSIGN(const Pair theirs, MakeAuthority("same name", DaysFromNow(1)));
  BDH_ASSERT_OK_AND_ASSIGN(const Pair a, Issue(ours, {"a", {}}, DaysFromNow(1)));
  BDH_ASSERT_OK_AND_ASSIGN(const Pair b, Issue(ours, {"b", {}}, DaysFromNow(1)));
  BDH_EXPECT_OK(CheckPair(a.certificate, a.key));
  EXPECT_THAT(CheckPair(a.certificate, b.key).message(), HasSubstr("not the key of that certificate"));
  BDH_EXPECT_OK(CheckIssuedBy(a.certificate, ours.certificate));
  BDH_EXPECT_OK(CheckIssuedBy(a.certificate, theirs.certificate + ours.certificate));
  EXPECT_THAT(CheckIssuedBy(a.certificate, theirs.certificate).message(), HasSubstr("another authority"));
}

TEST(Certificate, WhatIsNoCertificateIsRefused) {
  BDH_ASSERT_OK_AND_ASSIGN(const Pair pair, MakeAuthority("x", DaysFromNow(1)));
  for (const std::string& bad : {std::string(), std::string("hello"), pair.key,
                                 pair.certificate.substr(0, pair.certificate.size() / 2)}) {
    EXPECT_EQ(Describe(bad).status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(CheckIssuedBy(bad, pair.certificate).code(), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_THAT(CheckPair(pair.certificate, pair.certificate).message(), HasSubstr("no private key"));
  for (const char* name : {"", "a,DNS:b", "a b", "\n"}) {
    EXPECT_EQ(Issue(pair, {name, {}}, DaysFromNow(1)).status().code(), absl::StatusCode::kInvalidArgument)
        << name;
    EXPECT_FALSE(Issue(pair, {"good", {name}}, DaysFromNow(1)).ok()) << name;
  }
}

class FolderTest : public ::testing::Test {
 protected:
  TempDirectory temp_;
  const Folder folder_{temp_.path() + "/tls"};
};

TEST_F(FolderTest, KeysArePrivateAndFilesAreListed) {
  BDH_ASSERT_OK_AND_ASSIGN(const bool made, folder_.EnsureAuthority(100));
  EXPECT_TRUE(made);
  BDH_ASSERT_OK(folder_.Issue({"bdhctl", {"localhost"}}, 30));
  BDH_ASSERT_OK(folder_.Issue({"bdh-gateway", {}}, 30));
  BDH_ASSERT_OK_AND_ASSIGN(const auto entries, folder_.List());
  ASSERT_EQ(entries.size(), 3u);
  EXPECT_EQ(entries[0].name, "ca");
  EXPECT_EQ(entries[1].name, "bdh-gateway");
  for (const FileEntry& entry : entries) {
    BDH_EXPECT_OK(entry.certificate);
    BDH_EXPECT_OK(entry.key);
    struct stat info;
    ASSERT_EQ(stat(entry.key_file.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u) << entry.key_file;
  }
}

TEST_F(FolderTest, TheAuthorityStaysAndCertificatesAreReplaced) {
  BDH_ASSERT_OK(folder_.EnsureAuthority(100));
  BDH_ASSERT_OK(folder_.Issue({"bdhctl", {}}, 1));
  BDH_ASSERT_OK_AND_ASSIGN(const auto before, folder_.List());
  BDH_ASSERT_OK_AND_ASSIGN(const bool again, folder_.EnsureAuthority(100));
  EXPECT_FALSE(again);
  BDH_ASSERT_OK(folder_.Issue({"bdhctl", {}}, 1));
  BDH_ASSERT_OK_AND_ASSIGN(const auto after, folder_.List());
  EXPECT_EQ(before[0].certificate->fingerprint, after[0].certificate->fingerprint);
  EXPECT_NE(before[1].certificate->fingerprint, after[1].certificate->fingerprint);
}

TEST_F(FolderTest, WhatIsWrongIsSaidWhereItIs) {
  EXPECT_EQ(folder_.List().status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(folder_.Issue({"bdhctl", {}}, 1).code(), absl::StatusCode::kNotFound);
  BDH_ASSERT_OK(folder_.EnsureAuthority(1));
  BDH_ASSERT_OK(folder_.Issue({"bdhctl", {}}, 1));
  ASSERT_EQ(chmod(folder_.KeyFile("bdhctl").c_str(), 0644), 0);
  BDH_ASSERT_OK_AND_ASSIGN(auto entries, folder_.List());
  EXPECT_THAT(entries[1].key.message(), HasSubstr("chmod 600"));
  BDH_ASSERT_OK(WriteFileAtomically(folder_.CertificateFile("bdhctl"), "no certificate"));
  BDH_ASSERT_OK_AND_ASSIGN(entries, folder_.List());
  EXPECT_THAT(entries[1].certificate.status().message(), HasSubstr("no certificate"));
}

}  // namespace
}  // namespace bdh::certs
