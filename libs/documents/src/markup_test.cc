// What is left of markdown and HTML.
#include "markup.h"

#include <gtest/gtest.h>

namespace bdh::documents {
namespace {

TEST(Markup, HtmlBecomesItsText) {
  EXPECT_EQ(
      StripHtml("<html><head><title>A &amp; B</title><style>p{x:y}</style><script>if (a<b) {}</script></head>"
                "<body><h1>Head</h1>\n<p>One   <b>bold</b>\nword.</p><p>Two&nbsp;&#8212;&#x1F409;</p>"
                "<ul><li>a<li>b</ul>x<br>y<!-- <p>no</p> --></body></html>"),
      "A & B\n\nHead\n\nOne bold word.\n\nTwo —🐉\n\na\nb\n\nx\ny\n");
  EXPECT_EQ(StripHtml("<pre>a\n  b &lt;</pre><p>c</p>"), "a\n  b <\n\nc\n");
  EXPECT_EQ(StripHtml("1 < 2 & 3 &unknown; <a href=\"x>y\">link</a>"), "1 < 2 & 3 &unknown; link\n");
  EXPECT_EQ(StripHtml("<script>never closed"), "");
  EXPECT_EQ(StripHtml(""), "");
}

TEST(Markup, MarkdownBecomesItsText) {
  EXPECT_EQ(StripMarkdown("---\ntitle: x\n---\n# Title #\n\nSome *emphasis*, **strong** and `code *x*`.\n"),
            "Title\n\nSome emphasis, strong and code *x*.\n");
  EXPECT_EQ(StripMarkdown("A [link](http://x) and ![image](y.png), <http://z.example>.\n"),
            "A link and image, http://z.example.\n");
  EXPECT_EQ(StripMarkdown("> quoted\n> more\n\n***\nsnake_case_name 2 * 3\n"),
            "quoted\nmore\n\nsnake_case_name 2 * 3\n");
  EXPECT_EQ(StripMarkdown("```c++\nint *a; // # no\n```\nafter\n"), "int *a; // # no\nafter\n");
  EXPECT_EQ(StripMarkdown("a <!-- b\nc\nd --> e\n<b>x</b> \\*y\\* &lt;\n"), "a \n e\nx *y* <\n");
  EXPECT_EQ(StripMarkdown("- item\n  - deeper\n1. one\n"), "- item\n  - deeper\n1. one\n");
}

}  // namespace
}  // namespace bdh::documents
