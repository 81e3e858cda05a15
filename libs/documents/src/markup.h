// Text out of markup, by rules that are few and stated rather than those of a browser.
#pragma once

#include <string>
#include <string_view>

namespace bdh::documents {

// Tags and comments go, and with them what is in script, style, template, noscript, svg, iframe and object.
// The usual entities become characters, rare ones stay. White space becomes one space, block elements and
// <br> begin a line, paragraphs leave one line empty; within <pre> white space stays.
std::string StripHtml(std::string_view html);

// Front matter, HTML comments and tags go; so do the marks of headings, emphasis, quotes, rules and fences,
// while what they mark stays; links and images become their text. Code stays as it is.
std::string StripMarkdown(std::string_view markdown);

}  // namespace bdh::documents
