"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const say = (text) => { byId("status").textContent = ""; byId("status").textContent = text; };

  const select = (element) => {
    const range = document.createRange();
    range.selectNodeContents(element);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };

  // The clipboard may be refused to a file; then the text is copied, or left selected, as a user would.
  const copy = async (text, element) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      select(element);
      return document.execCommand("copy");
    }
  };

  const answer = (button, words) => {
    const usual = button.dataset.words ??= button.textContent;
    button.textContent = words;
    say(words);
    setTimeout(() => { button.textContent = usual; }, 2000);
  };

  for (const block of document.querySelectorAll(".paste")) {
    const code = block.querySelector("code");
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${code.textContent.trim().slice(0, 80)}`);
    button.addEventListener("click", async () => {
      const done = await copy(code.textContent.trim(), code);
      answer(button, done ? "Copied" : "Press Ctrl+C");
    });
    block.append(button);
  }

  const onClick = (id, act) => {
    const button = byId(id);
    if (button) {
      button.hidden = false;
      button.addEventListener("click", () => act(button));
    }
  };

  onClick("save", () => {
    const link = document.createElement("a");
    const text = byId("report").textContent;
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = "gpudoctor-report.json";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  });

  const copyUnseen = async (text, button) => {
    const page = document.createElement("pre");
    page.className = "unseen";
    page.textContent = text;
    document.body.append(page);
    const done = await copy(text, page);
    answer(button, done ? "Copied" : "Press Ctrl+C");
    if (done) page.remove();
  };
  onClick("copy-ticket", (button) => copyUnseen(JSON.parse(byId("ticket").textContent), button));

  // One finding, unfolded, out of the ticket: there they stand in the order of the page.
  const ticket = byId("ticket") ? JSON.parse(byId("ticket").textContent) : "";
  const [on, , about] = ticket.split("\n\n", 3);
  let place = 0;
  for (const finding of document.querySelectorAll("article.finding[id]")) {
    const word = finding.querySelector(".badge").lastChild.textContent.trim();
    const id = finding.querySelector("header .id").textContent;
    const found = ticket.indexOf(`\n<details><summary>${word} ${id}:`, place);
    if (found < 0) continue; // cut there, for its size
    place = ticket.indexOf("\n</details>", found);
    const block = ticket.slice(found, place).trim().replace(/^<details><summary>(.*)<\/summary>/, "#### $1");
    const text = `${block}\n\n${on.slice(on.indexOf(" on ") + 1)} · ${about}\n`;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "markdown";
    button.textContent = "Copy as Markdown";
    button.setAttribute("aria-label", `Copy as Markdown: ${id}`);
    button.addEventListener("click", () => copyUnseen(text, button));
    finding.querySelector("header").append(button);
  }

  onClick("print", () => print());
  onClick("print-all", () => {
    for (const folded of document.querySelectorAll("details")) folded.open = true;
    print();
  });

  // The colours of the dark theme stand in one media rule: whoever asks for a theme moves its condition.
  const prefersDark = matchMedia("(prefers-color-scheme: dark)");
  const rules = [...document.styleSheets].flatMap((sheet) => [...sheet.cssRules]);
  const darkRules = rules.filter((rule) => rule.media?.mediaText.includes("prefers-color-scheme: dark"));
  let isDark = prefersDark.matches;
  const show = (button) => {
    button.textContent = isDark ? "Light" : "Dark";
    button.setAttribute("aria-label", `Show in ${isDark ? "light" : "dark"} colours`);
  };
  onClick("theme", (button) => {
    isDark = !isDark;
    for (const rule of darkRules) rule.media.mediaText = isDark ? "screen" : "not all";
    document.documentElement.style.colorScheme = isDark ? "dark" : "light";
    show(button);
  });
  show(byId("theme"));

  // A fragment may lead into what is folded.
  const unfold = () => {
    const target = location.hash && byId(location.hash.slice(1));
    if (!target) return;
    target.closest("details")?.setAttribute("open", "");
    target.parentElement.querySelector(":scope > details.fold")?.setAttribute("open", "");
  };
  addEventListener("hashchange", unfold);
  unfold();
})();
