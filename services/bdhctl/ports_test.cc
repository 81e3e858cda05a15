// Choosing ports on this very machine: those that are taken are left alone, none is given out twice.
#include "services/bdhctl/ports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bdh/testing/status_matchers.h"

namespace bdh::bdhctl {
namespace {

// A port that somebody listens on.
class TakenPort {
 public:
  TakenPort() : descriptor_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    EXPECT_EQ(bind(descriptor_, reinterpret_cast<sockaddr*>(&address), length), 0);
    EXPECT_EQ(listen(descriptor_, 1), 0);
    EXPECT_EQ(getsockname(descriptor_, reinterpret_cast<sockaddr*>(&address), &length), 0);
    port_ = ntohs(address.sin_port);
  }
  ~TakenPort() { close(descriptor_); }
  int port() const { return port_; }

 private:
  const int descriptor_;
  int port_ = 0;
};

TEST(HostPortTest, ReadsAndWritesAddresses) {
  for (const char* text : {"127.0.0.1:7011", "localhost:0", "[::1]:80", "host.name:65535"}) {
    BDH_ASSERT_OK_AND_ASSIGN(const HostPort address, ParseHostPort(text));
    EXPECT_EQ(address.ToString(), text);
  }
}

TEST(HostPortTest, RefusesWhatIsNoAddress) {
  for (const char* text :
       {"", "host", ":80", "host:", "host:x", "host:65536", "host:-1", "::1:80", "[]:80"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(ParseHostPort(text).status())) << text;
  }
}

TEST(HostPortTest, AWildcardIsReachedOverLoopback) {
  EXPECT_EQ((HostPort{"0.0.0.0", 80}).ForClients().ToString(), "127.0.0.1:80");
  EXPECT_EQ((HostPort{"::", 80}).ForClients().ToString(), "[::1]:80");
  EXPECT_EQ((HostPort{"10.0.0.1", 80}).ForClients().ToString(), "10.0.0.1:80");
}

TEST(PortChooserTest, APortThatIsTakenIsReplacedByTheNextFreeOne) {
  const TakenPort taken;
  EXPECT_TRUE(absl::IsAlreadyExists(CanListen({"127.0.0.1", taken.port()})));
  EXPECT_THAT(WhyNot({"127.0.0.1", taken.port()}), ::testing::HasSubstr("is taken"));
  PortChooser chooser;
  const int stride = taken.port() > 50000 ? -1 : 1;
  BDH_ASSERT_OK_AND_ASSIGN(const HostPort given, chooser.Choose({"127.0.0.1", taken.port()}, stride));
  EXPECT_NE(given.port, taken.port());
  BDH_EXPECT_OK(CanListen(given));
}

TEST(PortChooserTest, NoPortIsGivenTwice) {
  PortChooser chooser;
  BDH_ASSERT_OK_AND_ASSIGN(const HostPort first, chooser.Choose({"127.0.0.1", 0}, 1));
  BDH_ASSERT_OK_AND_ASSIGN(const HostPort second, chooser.Choose(first, first.port > 50000 ? -1 : 1));
  EXPECT_NE(first.port, second.port);
}

TEST(PortChooserTest, AnAddressOfAnotherMachineIsAnErrorNotASearch) {
  PortChooser chooser;
  EXPECT_FALSE(chooser.Choose({"192.0.2.1", 7011}, 1).ok());  // TEST-NET-1: nobody's.
  EXPECT_FALSE(chooser.Choose({"no such host", 7011}, 1).ok());
}

}  // namespace
}  // namespace bdh::bdhctl
