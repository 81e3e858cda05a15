// Proves that messages become the transcript a base model continues, and that unusable ones are refused by
// name.
#include "bdh/engine/chat.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bdh/engine/text_assembler.h"
#include "bdh/testing/status_matchers.h"

namespace bdh::engine {
namespace {

TEST(Chat, ATranscriptEndsWhereTheAssistantIsToSpeak) {
  const std::vector<ChatMessage> messages = {{"system", "Be brief."}, {"user", "Who\nare you?"}};
  BDH_EXPECT_OK(Validate(messages));
  EXPECT_EQ(RenderTranscript(messages), "system: Be brief.\nuser: Who\nare you?\nassistant: ");
}

TEST(Chat, EveryRolesNextTurnEndsTheAnswer) {
  const auto stops = TranscriptStops();
  EXPECT_THAT(stops, testing::IsSupersetOf({"\nuser:", "\nsystem:", "\nassistant:"}));
  BDH_EXPECT_OK(ValidateStops(stops));
}

TEST(Chat, NoMessagesAndUnknownRolesAreRefused) {
  EXPECT_EQ(Validate(std::span<const ChatMessage>()).message(),
            "chat.messages is empty; want at least 1 message");
  const std::vector<ChatMessage> messages = {{"user", "a"}, {"wizard", "b"}};
  EXPECT_EQ(Validate(messages).message(),
            "chat.messages[1].role is 'wizard'; want one of system, developer, user, assistant, tool");
}

}  // namespace
}  // namespace bdh::engine
