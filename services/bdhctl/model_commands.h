// The commands of `bdhctl model` that have files of their own.
#pragma once

#include "services/bdhctl/command.h"

namespace bdh::bdhctl {

void AddModelTransferCommands(CLI::App& group, Invocation& invocation);
void AddModelShowCommand(CLI::App& group, Invocation& invocation);

}  // namespace bdh::bdhctl
