// TLS between real servers and real clients: who shows the right certificate is heard, nobody else is, files
// that change are used without a restart, and what is configured wrongly is a sentence before anything
// starts.

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/certs/certificate.h"
#include "bdh/certs/folder.h"
#include "bdh/mesh/peer.h"
#include "bdh/mesh/server.h"
#include "bdh/testing/status_matchers.h"
#include "bdh/testing/temp_directory.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "grpc_log.h"

namespace bdh::mesh {
namespace {

using ::testing::HasSubstr;

constexpr char kServer[] = "bdh-inference", kClient[] = "bdh-gateway";

// An authority and the certificates it issued.
class Site {
 public:
  explicit Site(const std::string& path) : folder_(path) {
    BDH_EXPECT_OK(folder_.EnsureAuthority(100));
    for (const char* name : {kServer, kClient}) Renew(name);
  }

  const certs::Folder& folder() const { return folder_; }
  void Renew(const std::string& name) const { BDH_EXPECT_OK(folder_.Issue({name, {"localhost"}}, 10)); }
  // Puts one in place that ended a minute ago.
  void Expire(const std::string& name) const {
    const absl::Time now = absl::Now();
    const auto pair = certs::Issue({*ReadFile(folder_.AuthorityFile()), *ReadFile(folder_.KeyFile("ca"))},
                                   {name, {}}, {now - absl::Hours(2), now - absl::Minutes(1)});
    BDH_ASSERT_OK(pair);
    BDH_EXPECT_OK(WriteFileAtomically(folder_.CertificateFile(name), pair->certificate));
    BDH_EXPECT_OK(WriteFileAtomically(folder_.KeyFile(name), pair->key, 0600));
  }
  v1::MeshConfig Config() const {
    v1::MeshConfig mesh;
    v1::TlsConfig& tls = *mesh.mutable_tls();
    tls.set_ca_file(folder_.AuthorityFile());
    tls.set_cert_file(folder_.CertificateFile("{daemon}"));
    tls.set_key_file(folder_.KeyFile("{daemon}"));
    tls.set_reload_seconds(1);
    return mesh;
  }
  std::string Serial(const std::string& name) const {
    return certs::Describe(*ReadFile(folder_.CertificateFile(name)))->serial;
  }

 private:
  const certs::Folder folder_;
};

class TlsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { RouteGrpcLog(); }

  void Serve(const v1::MeshConfig& mesh) {
    const auto credentials = Credentials::Load(mesh, kServer);
    BDH_ASSERT_OK(credentials);
    const ListenOptions listen{.admin_address = "", .credentials = *credentials};
    gate_ = std::make_unique<Gate>(kServer, listen, metrics_);
    auto server =
        Server::Start({.daemon = kServer, .listen = listen, .gate = gate_.get(), .metrics = &metrics_});
    BDH_ASSERT_OK(server);
    server_ = *std::move(server);
    server_->SetReady(true);
  }

  // How a call with these credentials ends; `serial` hears of the certificate that the server showed.
  absl::Status Ask(const Credentials& credentials, const std::string& daemon = kServer,
                   std::string* serial = nullptr) {
    const Peer peer(daemon, server_->address(), credentials);
    const auto stub = v1::MeshService::NewStub(peer.channel());
    const auto context = peer.NewContext(absl::Seconds(10));
    v1::GetStatusResponse response;
    const absl::Status status = peer.Outcome(stub->GetStatus(context.get(), {}, &response));
    if (status.ok() && serial != nullptr) {
      const auto pem = context->auth_context()->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
      const auto certificate = certs::Describe(std::string(pem.at(0).data(), pem.at(0).size()));
      BDH_EXPECT_OK(certificate);
      *serial = certificate->serial;
    }
    return status;
  }
  absl::Status AskAs(const v1::MeshConfig& mesh, const std::string& name = kClient) {
    const auto credentials = Credentials::Load(mesh, name);
    return credentials.ok() ? Ask(*credentials) : credentials.status();
  }

  TempDirectory temp_;
  const Site site_{temp_.path() + "/ours"};
  telemetry::Metrics metrics_;
  std::unique_ptr<Gate> gate_;
  std::unique_ptr<Server> server_;
};

TEST_F(TlsTest, WhoShowsACertificateOfOursIsHeard) {
  Serve(site_.Config());
  BDH_EXPECT_OK(AskAs(site_.Config()));
}

TEST_F(TlsTest, TheNameInTheCertificateIsWhoCalls) {
  v1::MeshConfig mesh = site_.Config();
  mesh.add_permissions("bdh-gateway: Generate");
  Serve(mesh);
  BDH_ASSERT_OK_AND_ASSIGN(const Credentials gateway, Credentials::Load(mesh, kClient));
  const Peer peer(kServer, server_->address(), gateway);
  const auto stub = v1::MeshService::NewStub(peer.channel());
  const auto refused =
      peer.Call(*stub, &v1::MeshService::Stub::SetLogLevels, v1::SetLogLevelsRequest(), absl::Seconds(10))
          .status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(refused.message()), HasSubstr("bdh-gateway may not call SetLogLevels"));
}

TEST_F(TlsTest, WithoutACertificateOrWithoutTlsNobodyIsHeardAndTheServerLivesOn) {
  Serve(site_.Config());
  v1::MeshConfig bare = site_.Config();
  bare.mutable_tls()->clear_cert_file();
  bare.mutable_tls()->clear_key_file();
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(AskAs(bare).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(Ask("").code(), absl::StatusCode::kUnavailable) << "plain text";
  const std::string log = ::testing::internal::GetCapturedStderr();
  EXPECT_THAT(log, HasSubstr("the caller has no mesh.tls.cert_file"));
  EXPECT_THAT(log, HasSubstr("somebody spoke something else than TLS"));
  BDH_EXPECT_OK(AskAs(site_.Config()));
}

TEST_F(TlsTest, ForeignAuthoritiesAreNotTrustedEitherWay) {
  Serve(site_.Config());
  const Site theirs(temp_.path() + "/theirs");
  EXPECT_EQ(AskAs(theirs.Config()).code(), absl::StatusCode::kUnavailable);
  v1::MeshConfig trusting = theirs.Config();
  trusting.mutable_tls()->set_ca_file(temp_.path() + "/both.pem");
  BDH_ASSERT_OK(WriteFileAtomically(trusting.tls().ca_file(), *ReadFile(theirs.folder().AuthorityFile()) +
                                                                  *ReadFile(site_.folder().AuthorityFile())));
  EXPECT_EQ(AskAs(trusting).code(), absl::StatusCode::kUnavailable) << "it trusts us, we do not trust it";
}

TEST_F(TlsTest, AnotherDaemonsCertificateIsNotTakenForTheOneThatIsCalled) {
  Serve(site_.Config());
  BDH_ASSERT_OK_AND_ASSIGN(const Credentials ours, Credentials::Load(site_.Config(), kClient));
  EXPECT_EQ(Ask(ours, "bdh-checkpoint-store").code(), absl::StatusCode::kUnavailable);
  BDH_EXPECT_OK(Ask(ours, kServer));
}

TEST_F(TlsTest, WithVerifyHostTheAddressCounts) {
  v1::MeshConfig mesh = site_.Config();
  mesh.mutable_tls()->set_verify("host");
  Serve(mesh);
  BDH_ASSERT_OK_AND_ASSIGN(const Credentials ours, Credentials::Load(mesh, kClient));
  EXPECT_EQ(Ask(ours).code(), absl::StatusCode::kUnavailable) << "127.0.0.1 is not in the certificate";
  BDH_ASSERT_OK(site_.folder().Issue({kServer, {"127.0.0.1"}}, 1));
  Serve(mesh);
  BDH_EXPECT_OK(Ask(ours));
}

TEST_F(TlsTest, AnExpiredCertificateIsRefused) {
  Serve(site_.Config());
  // Loaded while it was good; read again when the first call is made.
  BDH_ASSERT_OK_AND_ASSIGN(const Credentials stale, Credentials::Load(site_.Config(), kClient));
  site_.Expire(kClient);
  EXPECT_EQ(Ask(stale).code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(AskAs(site_.Config()).message(), HasSubstr("expired on"));
  site_.Renew(kClient);
  BDH_EXPECT_OK(AskAs(site_.Config()));
}

TEST_F(TlsTest, OptionalClientCertificatesMayBeLeftOut) {
  v1::MeshConfig mesh = site_.Config();
  mesh.mutable_tls()->set_client_certificates("optional");
  Serve(mesh);
  v1::MeshConfig bare = mesh;
  bare.mutable_tls()->clear_cert_file();
  bare.mutable_tls()->clear_key_file();
  BDH_EXPECT_OK(AskAs(bare));
  EXPECT_EQ(AskAs(Site(temp_.path() + "/theirs").Config()).code(), absl::StatusCode::kUnavailable);
}

TEST_F(TlsTest, NewConnectionsSeeNewCertificatesWithoutARestart) {
  Serve(site_.Config());
  std::string shown;
  const auto ask = [&] {
    const auto credentials = Credentials::Load(site_.Config(), kClient);
    BDH_EXPECT_OK(credentials);
    BDH_EXPECT_OK(Ask(*credentials, kServer, &shown));
  };
  ask();
  EXPECT_EQ(shown, site_.Serial(kServer));
  const std::string before = shown;
  site_.Renew(kServer);
  const absl::Time deadline = absl::Now() + absl::Seconds(60);
  while (shown == before && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(50));
    ask();
  }
  EXPECT_EQ(shown, site_.Serial(kServer));
}

// What Load says to a changed configuration.
struct Wrong {
  const char* name;
  std::function<void(const Site&, v1::TlsConfig&)> change;
  absl::StatusCode code;
  const char* sentence;
};

class WrongTest : public TlsTest, public ::testing::WithParamInterface<Wrong> {};

TEST_P(WrongTest, IsASentenceAtTheStart) {
  v1::MeshConfig mesh = site_.Config();
  GetParam().change(site_, *mesh.mutable_tls());
  const auto status = Credentials::Load(mesh, kServer).status();
  EXPECT_EQ(status.code(), GetParam().code) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(GetParam().sentence));
}

INSTANTIATE_TEST_SUITE_P(
    Each, WrongTest,
    ::testing::Values(
        Wrong{"CertificateWithoutKey", [](const Site&, v1::TlsConfig& tls) { tls.clear_key_file(); },
              absl::StatusCode::kInvalidArgument, "mesh.tls.cert_file is set and mesh.tls.key_file is not"},
        Wrong{"KeyWithoutCertificate", [](const Site&, v1::TlsConfig& tls) { tls.clear_cert_file(); },
              absl::StatusCode::kInvalidArgument, "mesh.tls.key_file is set and mesh.tls.cert_file is not"},
        Wrong{"NoAuthority", [](const Site&, v1::TlsConfig& tls) { tls.clear_ca_file(); },
              absl::StatusCode::kInvalidArgument, "mesh.tls.ca_file is not"},
        Wrong{"NoSuchFile", [](const Site&, v1::TlsConfig& tls) { tls.set_cert_file("/nowhere/x.pem"); },
              absl::StatusCode::kNotFound, "mesh.tls.cert_file"},
        Wrong{"AnothersKey",
              [](const Site& site, v1::TlsConfig& tls) { tls.set_key_file(site.folder().KeyFile(kClient)); },
              absl::StatusCode::kInvalidArgument, "is not the key of that certificate"},
        Wrong{"AuthorityThatDidNotIssueIt",
              [](const Site& site, v1::TlsConfig& tls) {
                const Site other(site.folder().path() + "-other");
                tls.set_ca_file(other.folder().AuthorityFile());
              },
              absl::StatusCode::kInvalidArgument, "was issued by another authority"},
        Wrong{"NotACertificate",
              [](const Site& site, v1::TlsConfig& tls) { tls.set_ca_file(site.folder().KeyFile(kServer)); },
              absl::StatusCode::kInvalidArgument, "holds no certificate"},
        Wrong{"OpenKey",
              [](const Site& site, v1::TlsConfig&) { chmod(site.folder().KeyFile(kServer).c_str(), 0644); },
              absl::StatusCode::kFailedPrecondition, "chmod 600"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST_F(TlsTest, ADaemonNeedsACertificateForItsName) {
  v1::MeshConfig mesh = site_.Config();
  mesh.mutable_tls()->set_key_file(site_.folder().KeyFile(kClient));
  mesh.mutable_tls()->set_cert_file(site_.folder().CertificateFile(kClient));
  BDH_ASSERT_OK_AND_ASSIGN(const Credentials credentials, Credentials::Load(mesh, kServer));
  const ListenOptions listen{.admin_address = "", .credentials = credentials};
  Gate gate(kServer, listen, metrics_);
  const auto server =
      Server::Start({.daemon = kServer, .listen = listen, .gate = &gate, .metrics = &metrics_});
  EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("is not for bdh-inference"));
  Serve(site_.Config());
  BDH_EXPECT_OK(Ask(credentials));  // A caller may have any.
}

TEST_F(TlsTest, ADaemonNeedsACertificateToShow) {
  v1::MeshConfig bare = site_.Config();
  bare.mutable_tls()->clear_cert_file();
  bare.mutable_tls()->clear_key_file();
  BDH_ASSERT_OK_AND_ASSIGN(const Credentials credentials, Credentials::Load(bare, kServer));
  const ListenOptions listen{.admin_address = "", .credentials = credentials};
  Gate gate(kServer, listen, metrics_);
  const auto server =
      Server::Start({.daemon = kServer, .listen = listen, .gate = &gate, .metrics = &metrics_});
  EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("mesh.tls.cert_file"));
}

}  // namespace
}  // namespace bdh::mesh
