// `bdhctl data` is made in two files: what makes data sets, and what looks into them.
#pragma once

#include "bdh/v1/data_loader.pb.h"
#include "services/bdhctl/command.h"

namespace bdh::bdhctl {

void AddDataMaking(CLI::App& group, Invocation& invocation);
void AddDataLooking(CLI::App& group, Invocation& invocation);

void PrintDataset(const v1::Dataset& dataset, bool json);

}  // namespace bdh::bdhctl
