// bdhctl token: the mesh's token, changed while all runs.
#include <iostream>
#include <set>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "bdh/base/file.h"
#include "bdh/base/status_macros.h"
#include "bdh/base/text.h"
#include "bdh/mesh/token_file.h"
#include "bdh/v1/mesh.grpc.pb.h"
#include "services/bdhctl/client/context.h"
#include "services/bdhctl/command.h"
#include "services/bdhctl/mesh_plan.h"
#include "services/bdhctl/output.h"

namespace bdh::bdhctl {
namespace {

constexpr int kTokenBytes = 32;
// Daemons look at the file once a second, when they call or are called.
constexpr absl::Duration kPatience = absl::Seconds(30), kPoll = absl::Milliseconds(100),
                         kReread = absl::Seconds(2);

// Enough to tell tokens apart, too little to use one.
std::string Fingerprint(const mesh::Token& token) {
  return Sha256Hex(token.secret).substr(0, 12);
}

absl::StatusOr<std::string> TokenFileOf(const Mesh& mesh) {
  if (!mesh.config.mesh().token_file().empty()) {
    return mesh::PathFor("bdhctl", mesh.config.mesh().token_file());
  }
  return absl::FailedPreconditionError("this mesh has no token: mesh.token_file is not set");
}

absl::StatusOr<int> Show(const MeshFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags));
  BDH_ASSIGN_OR_RETURN(const std::string file, TokenFileOf(mesh));
  BDH_ASSIGN_OR_RETURN(const mesh::Tokens tokens, mesh::ReadTokens(file));
  Table table({"NAME", "SHA-256 BEGINS"});
  nlohmann::ordered_json json = {{"file", file}, {"tokens", nlohmann::ordered_json::array()}};
  for (const mesh::Token& token : tokens) {
    table.Add({token.name.empty() ? "-" : token.name, Fingerprint(token)});
    json["tokens"].push_back({{"name", token.name}, {"sha256_begins", Fingerprint(token)}});
  }
  if (flags.json) {
    PrintJson(json);
  } else {
    std::cout << table.ToString();
  }
  return kExitOk;
}

// One new token for each name that has one.
mesh::Tokens Renewed(const mesh::Tokens& old) {
  mesh::Tokens renewed;
  std::set<std::string> seen;
  for (const mesh::Token& token : old) {
    if (seen.insert(token.name).second) renewed.push_back({token.name, RandomHex(kTokenBytes)});
  }
  return renewed;
}

mesh::Tokens Joined(mesh::Tokens first, const mesh::Tokens& then) {
  first.insert(first.end(), then.begin(), then.end());
  return first;
}

absl::Status Ask(const Mesh& mesh, const std::string& daemon, const mesh::Credentials& credentials) {
  const mesh::Peer peer = mesh.Peer(daemon, credentials);
  const auto stub = v1::MeshService::NewStub(peer.channel());
  return peer.Call(*stub, &v1::MeshService::Stub::GetStatus, v1::GetStatusRequest(), mesh.call_timeout())
      .status();
}

// Waits until no running daemon refuses (or, with `refused`, accepts) the token. One that is down reads the
// file when it starts.
absl::Status AwaitAll(const Mesh& mesh, const mesh::Token& token, bool refused) {
  const absl::Time deadline = absl::Now() + kPatience;
  for (const std::string_view each : kDaemons) {
    const std::string daemon(each);
    while (true) {
      const absl::Status answer = Ask(mesh, daemon, mesh.credentials.WithToken(token.secret));
      if (absl::IsUnauthenticated(answer) == refused || absl::IsUnavailable(answer)) break;
      if (absl::Now() > deadline) {
        return absl::DeadlineExceededError(
            absl::StrFormat("%s does not use the changed token file; does it read another one? Both tokens "
                            "are in the file still",
                            daemon));
      }
      absl::SleepFor(kPoll);
    }
  }
  return absl::OkStatus();
}

absl::Status Write(const std::string& file, const mesh::Tokens& tokens) {
  return WriteFileAtomically(file, mesh::FormatTokens(tokens), 0600);
}

absl::StatusOr<int> Rotate(const MeshFlags& flags) {
  BDH_ASSIGN_OR_RETURN(const Mesh mesh, FindMesh(flags));
  BDH_ASSIGN_OR_RETURN(const std::string file, TokenFileOf(mesh));
  BDH_ASSIGN_OR_RETURN(const mesh::Tokens before, mesh::ReadTokens(file));
  const mesh::Tokens after = Renewed(before);
  const auto say = [](std::string_view text) { std::cerr << "bdhctl: " << text << std::endl; };
  BDH_RETURN_IF_ERROR(Write(file, Joined(before, after)));
  say("the new token is accepted beside the old one");
  BDH_RETURN_IF_ERROR(AwaitAll(mesh, after.front(), /*refused=*/false));
  BDH_RETURN_IF_ERROR(Write(file, Joined(after, before)));
  say("the new token is shown by all");
  absl::SleepFor(kReread);
  BDH_RETURN_IF_ERROR(Write(file, after));
  BDH_RETURN_IF_ERROR(AwaitAll(mesh, before.front(), /*refused=*/true));
  say("the old token opens nothing any more");
  return Show(flags);
}

}  // namespace

void AddTokenCommands(CLI::App& app, Invocation& invocation) {
  CLI::App* group = app.add_subcommand("token", "The mesh's token: look at it, replace it while all runs");
  group->require_subcommand(1);
  AddCommand<MeshFlags>(
      *group, invocation, "show", "Show whose tokens there are; never a token itself",
      [](CLI::App& command, MeshFlags& flags) { AddMeshFlags(command, flags); }, Show);
  AddCommand<MeshFlags>(
      *group, invocation, "rotate", "Replace the mesh's tokens; no call fails meanwhile",
      [](CLI::App& command, MeshFlags& flags) {
        AddMeshFlags(command, flags);
        command.footer(
            "For a mesh whose daemons read the same token file as this command. Where every machine has its "
            "own,\n"
            "write old and new token into all files, then new and old, then the new one alone.");
      },
      Rotate);
}

}  // namespace bdh::bdhctl
