"use strict";
// Finds, sorts and opens nodes. All that they say is put into the page as text, never as markup.
(() => {
  const byId = (id) => document.getElementById(id);
  const table = byId("node-table");
  if (!table) return;
  const data = JSON.parse(byId("fleet").textContent);
  const PER_PAGE = 50;
  const STATUS = { f: "fail", e: "error", w: "warn", s: "skip", p: "pass", i: "skip" };
  const WORD = { f: "FAIL", e: "ERROR", w: "WARN", s: "skip", p: "ok", i: "ignored" };
  const MARK = { f: "✗", e: "?", w: "!", s: "–", p: "✓", i: "–" };
  const RANK = { f: 0, e: 1, w: 2, s: 3, p: 4 };
  const collator = new Intl.Collator("en", { numeric: true });
  const say = (text) => { byId("status").textContent = text; };

  const make = (name, attributes = {}, ...inside) => {
    const element = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "class") element.className = value;
      else element.setAttribute(key, value);
    }
    element.append(...inside);
    return element;
  };

  // What a browser would obey, or nobody could see, is shown as its number.
  const hidden = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/gu;
  const clean = (text) => text.replace(hidden, (c) => (c === "\t" || c === "\n" ? " " : `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`));
  const named = (text) => (text.length <= 96 ? clean(text) : clean(`${text.slice(0, 48)}…${text.slice(-48)}`));

  const nodes = data.nodes.map(([name, letter, cohort, results, started, findings = [], figures = [], unlike = [], place = []], number) => ({
    number, name, letter, cohort, results, started, figures,
    findings: findings.map((at) => data.findings[at]),
    unlike: unlike.map(([trait, value]) => [data.words[trait], data.words[value]]),
    place: place.map(([key, value]) => [data.words[key], data.words[value]]),
  }));
  const textOf = (node) => (node.text ??= [
    node.name,
    ...node.findings.flatMap(([check, , , summary]) => [data.checks[check][0], data.texts[summary]]),
    ...node.unlike.flat(),
    ...node.place.flat(),
  ].join("\n").toLowerCase());

  const quantity = (value, unit) => {
    if (value === null || value === undefined) return "–";
    if (unit === "bytes") {
      const power = Math.min(4, Math.max(0, Math.floor(Math.log2(Math.max(1, Math.abs(value))) / 10)));
      return `${Math.floor((value / 2 ** (10 * power)) * 10) / 10} ${["B", "KiB", "MiB", "GiB", "TiB"][power]}`;
    }
    if (unit === "bytes/s") return `${Number((value / 1e9).toPrecision(4))} GB/s`;
    if (unit === "s" && value >= 172800) return `${Number((value / 86400).toPrecision(3))} days`;
    if (unit === "s" && value >= 7200) return `${Number((value / 3600).toPrecision(3))} h`;
    if (unit === "s" && value < 1) return `${Number((value * 1000).toPrecision(3))} ms`;
    return `${Number(value.toPrecision(4))} ${unit}`.trim();
  };

  // As Slurm folds names: gpu-[01-04,07].
  const fold = (names) => {
    const groups = new Map();
    const single = [];
    for (const name of new Set(names)) {
      const match = /^(.*?)(\d+)(\D*)$/s.exec(name);
      if (!match || /[[\],]/.test(name) || match[2].length > 15) { single.push(name); continue; }
      const [, head, digits, tail] = match;
      const key = `${head}\0${digits.length}\0${tail}`;
      if (!groups.has(key)) groups.set(key, { head, tail, wide: digits.length, numbers: [] });
      groups.get(key).numbers.push(Number(digits));
    }
    for (const { head, tail, wide, numbers } of groups.values()) {
      numbers.sort((one, other) => one - other);
      const pad = (number) => String(number).padStart(wide, "0");
      const ranges = [];
      for (const number of numbers) {
        const last = ranges.at(-1);
        if (last && number === last[1] + 1) last[1] = number;
        else ranges.push([number, number]);
      }
      const words = ranges.map(([low, high]) => (low === high ? pad(low) : `${pad(low)}-${pad(high)}`));
      const plain = words.length === 1 && ranges[0][0] === ranges[0][1];
      single.push(`${head}${plain ? words[0] : `[${words.join(",")}]`}${tail}`);
    }
    return single.sort(collator.compare).join(",");
  };

  const copy = async (button, text) => {
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = make("textarea", { class: "unseen", "aria-hidden": "true" });
      area.value = text;
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
    }
    const usual = (button.dataset.words ??= button.textContent);
    button.textContent = done ? "Copied" : "Not allowed here";
    say(button.textContent);
    setTimeout(() => { button.textContent = usual; }, 2000);
  };

  const save = (name, type, text) => {
    const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };
  // A cell that begins like a formula would be one to a spreadsheet.
  const cell = (value) => {
    const text = String(value ?? "");
    const safe = /^[=+@\t\r]|^-\D/.test(text) ? `'${text}` : text;
    return /[",\n\r]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
  };
  const csv = (rows) => rows.map((row) => row.map(cell).join(",")).join("\r\n") + "\r\n";

  const badge = (letter) => make("span", { class: `badge ${STATUS[letter]}` },
    make("span", { "aria-hidden": "true" }, MARK[letter]), ` ${WORD[letter]}`);
  const isolated = (text, kind = "id") => make("bdi", { class: kind }, text);

  // State: which nodes are looked for, in which order, which page of them.
  const state = { words: [], checks: null, letters: "fewi", cohort: "", figure: -1, sort: "status", down: false, page: 0, open: new Set() };
  const boxes = [...byId("statuses").querySelectorAll("input")];
  let found = [];

  const matches = (node, statuses) => statuses.has(STATUS[node.letter])
    && (state.cohort === "" || node.cohort === Number(state.cohort))
    && (!state.checks || node.findings.some(([check, letter]) => state.checks.has(check) && state.letters.includes(letter)))
    && state.words.every((word) => textOf(node).includes(word));

  const value = (node) => node.figures[state.figure] ?? null;
  const orders = {
    status: (one, other) => RANK[one.letter] - RANK[other.letter] || other.findings.length - one.findings.length,
    name: (one, other) => collator.compare(one.name, other.name),
    problems: (one, other) => one.findings.length - other.findings.length,
    cohort: (one, other) => collator.compare(data.cohorts[one.cohort], data.cohorts[other.cohort]),
    figure: (one, other) => value(one) - value(other),
  };

  const search = () => {
    const statuses = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    found = nodes.filter((node) => matches(node, statuses));
    const sign = state.down ? -1 : 1;
    found.sort((one, other) => {
      if (state.sort === "figure" && (value(one) === null) !== (value(other) === null)) return value(one) === null ? 1 : -1;
      return sign * orders[state.sort](one, other) || one.number - other.number;
    });
    state.page = 0;
    show();
  };

  const detail = (node) => {
    const card = make("div", { class: "card" });
    const [started] = [data.words[node.started]];
    card.append(make("p", { class: "settles" }, `Checked ${started.replace("T", " ").replace("Z", " UTC")}`,
      ...node.place.map(([key, word]) => `, ${clean(key)} ${clean(word)}`)));
    for (const [check, letter, owner, summary, evidence, advice, commands] of node.findings) {
      const [id, title, why] = data.checks[check];
      const one = make("div", { class: "one" },
        make("p", {}, badge(letter), " ", make("span", { class: "id" }, clean(id)), " ", make("small", {}, clean(data.words[owner]))),
        make("p", {}, make("b", {}, clean(data.texts[summary]))),
        make("p", { class: "settles" }, `Should be: ${clean(title)}`));
      if (why) one.append(make("p", {}, clean(why)));
      if (evidence.length) one.append(make("ul", {}, ...evidence.map((at) => make("li", {}, clean(data.texts[at])))));
      for (const at of advice) one.append(make("p", { class: "fix" }, clean(data.texts[at])));
      if (commands.length) {
        const lines = commands.map((at) => clean(data.texts[at]));
        const code = make("code", {}, lines.join("\n"));
        const button = make("button", { type: "button", class: "copy", "aria-label": `Copy: ${lines[0].slice(0, 80)}` }, "Copy");
        button.addEventListener("click", () => copy(button, lines.join("\n")));
        one.append(make("div", { class: "paste" }, make("pre", {}, code), button));
      }
      card.append(one);
    }
    if (node.unlike.length) {
      card.append(make("div", { class: "one" }, make("p", {}, make("b", {}, "Unlike most of its cohort")),
        make("ul", {}, ...node.unlike.map(([trait, word]) => make("li", {}, `${clean(trait)}: ${clean(word)}`)))));
    }
    const told = data.figures.map(([label, unit], at) => [label, node.figures[at], unit]).filter(([, figure]) => figure !== null && figure !== undefined);
    if (told.length) {
      card.append(make("dl", { class: "glance" }, ...told.flatMap(([label, figure, unit]) => [make("dt", {}, label), make("dd", {}, quantity(figure, unit))])));
    }
    const letters = data.results[node.results];
    const by = { p: [], s: [], i: [] };
    [...letters].forEach((letter, at) => by[letter]?.push(data.checks[at][0]));
    for (const [letter, ids] of Object.entries(by)) {
      if (!ids.length) continue;
      card.append(make("details", { class: "fold" },
        make("summary", {}, badge(letter), " ", make("small", {}, `${ids.length} ${ids.length === 1 ? "check" : "checks"}`)),
        make("p", { class: "letters" }, ...ids.map((id) => make("span", { class: "id" }, clean(id))))));
    }
    return make("tr", { class: "detail" }, make("td", { colspan: state.figure < 0 ? "4" : "5" }, card));
  };

  const toggle = (node, row, button) => {
    const wasOpen = state.open.delete(node.number);
    button.setAttribute("aria-expanded", String(!wasOpen));
    if (wasOpen) row.nextElementSibling.remove();
    else {
      state.open.add(node.number);
      row.after(detail(node));
    }
  };

  const rowOf = (node) => {
    const button = make("button", { type: "button", class: "open id", "aria-expanded": "false", title: clean(node.name).slice(0, 500) }, isolated(named(node.name), ""));
    const problems = make("td", {});
    for (const [check, letter] of node.findings.slice(0, 6)) problems.append(make("span", { class: `id ${STATUS[letter]}` }, clean(data.checks[check][0])), " ");
    if (node.findings.length > 6) problems.append(make("small", {}, `and ${node.findings.length - 6} more`));
    if (!node.findings.length) problems.append(make("span", { class: "quiet" }, node.unlike.length ? `unlike: ${clean(node.unlike.map(([trait]) => trait).slice(0, 4).join(", "))}` : "like the others"));
    const row = make("tr", {}, make("td", {}, badge(node.letter)), make("th", { scope: "row" }, button), problems,
      make("td", {}, isolated(clean(data.cohorts[node.cohort]), "")));
    if (state.figure >= 0) row.append(make("td", { class: "number" }, quantity(value(node), data.figures[state.figure][1])));
    button.addEventListener("click", () => toggle(node, row, button));
    return [row, button];
  };

  const show = () => {
    const body = table.tBodies[0];
    state.open.clear();
    const first = state.page * PER_PAGE;
    const some = found.slice(first, first + PER_PAGE);
    body.replaceChildren(...some.map((node) => rowOf(node)[0]));
    const pages = Math.ceil(found.length / PER_PAGE);
    byId("pages").hidden = pages < 2;
    byId("page").textContent = `${first + 1} to ${first + some.length} of ${found.length}`;
    byId("before").disabled = state.page === 0;
    byId("after").disabled = state.page >= pages - 1;
    byId("shown").textContent = found.length === nodes.length ? `All ${nodes.length} nodes` : `${found.length} of ${nodes.length} nodes`;
    byId("copy-hosts").disabled = !found.length;
  };

  const headings = [...table.tHead.rows[0].cells];
  const mark = () => {
    for (const heading of headings) {
      if (heading.dataset.sort === state.sort) heading.setAttribute("aria-sort", state.down ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    }
  };
  for (const heading of headings) {
    const button = make("button", { type: "button" }, heading.textContent);
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      state.down = state.sort === heading.dataset.sort ? !state.down : heading.dataset.sort === "problems";
      state.sort = heading.dataset.sort;
      mark();
      search();
    });
  }

  const checkPick = byId("pick-check");
  const counted = new Map();
  for (const node of nodes) for (const check of new Set(node.findings.map(([at]) => at))) counted.set(check, (counted.get(check) ?? 0) + 1);
  for (const [check, count] of [...counted].sort((one, other) => other[1] - one[1])) {
    checkPick.append(make("option", { value: check }, `${named(data.checks[check][0])} (${count})`));
  }
  data.cohorts.forEach((name, at) => byId("pick-cohort").append(make("option", { value: at }, named(name))));
  byId("pick-figure").append(make("option", { value: -1 }, "none"), ...data.figures.map(([label], at) => make("option", { value: at }, label)));

  const only = (checks, letters) => {
    state.checks = checks;
    state.letters = letters;
    for (const box of boxes) box.checked = true;
    search();
    byId("nodes").scrollIntoView();
  };

  checkPick.addEventListener("change", () => {
    state.checks = checkPick.value === "" ? null : new Set([Number(checkPick.value)]);
    state.letters = "fewi";
    search();
  });
  byId("pick-cohort").addEventListener("change", (event) => { state.cohort = event.target.value; search(); });
  byId("pick-figure").addEventListener("change", (event) => {
    state.figure = Number(event.target.value);
    const heading = byId("figure-heading");
    heading.hidden = state.figure < 0;
    state.sort = state.figure < 0 ? "status" : "figure";
    state.down = false;
    if (state.figure >= 0) heading.querySelector("button").textContent = data.figures[state.figure][0];
    mark();
    search();
  });
  let waiting = 0;
  byId("search").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      state.words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      search();
    }, 80);
  });
  byId("statuses").addEventListener("change", search);
  byId("finder").addEventListener("submit", (event) => event.preventDefault());
  byId("finder").addEventListener("reset", () => setTimeout(() => {
    Object.assign(state, { words: [], checks: null, letters: "fewi", cohort: "", figure: -1, sort: "status", down: false });
    byId("figure-heading").hidden = true;
    mark();
    search();
  }));
  const turn = (by) => { state.page += by; show(); byId("nodes").scrollIntoView(); };
  byId("before").addEventListener("click", () => turn(-1));
  byId("after").addEventListener("click", () => turn(1));

  byId("copy-hosts").addEventListener("click", (event) => copy(event.currentTarget, fold(found.map((node) => node.name))));
  byId("save-nodes").addEventListener("click", () => save("gpudoctor-nodes.csv", "text/csv", csv([
    ["node", "status", "gpus", "started", "problems", "unlike", ...data.figures.map(([label, unit]) => (unit ? `${label} (${unit})` : label))],
    ...found.map((node) => [node.name, STATUS[node.letter], data.cohorts[node.cohort], data.words[node.started],
      node.findings.map(([check]) => data.checks[check][0]).join(" "), node.unlike.map((pair) => pair.join("=")).join("; "), ...data.figures.map((_, at) => node.figures[at])]),
  ])));
  byId("save-findings").addEventListener("click", () => save("gpudoctor-findings.csv", "text/csv", csv([
    ["node", "check", "status", "owner", "found", "evidence", "fix"],
    ...found.flatMap((node) => node.findings.map(([check, letter, owner, summary, evidence, advice, commands]) => [node.name, data.checks[check][0], STATUS[letter], data.words[owner],
      data.texts[summary], evidence.map((at) => data.texts[at]).join("; "), [...advice, ...commands].map((at) => data.texts[at]).join("\n")])),
  ])));

  for (const button of document.querySelectorAll("button.find")) {
    button.hidden = false;
    button.setAttribute("aria-label", `Show these nodes: ${button.dataset.said}`);
    button.addEventListener("click", () => {
      const checks = new Set(button.dataset.checks.split(" ").map(Number));
      checkPick.value = checks.size === 1 ? [...checks][0] : "";
      only(checks, button.dataset.letters);
    });
  }
  for (const link of document.querySelectorAll("a[data-status]")) {
    link.addEventListener("click", () => {
      for (const box of boxes) box.checked = box.value === link.dataset.status;
      state.checks = null;
      checkPick.value = "";
      search();
    });
  }

  // #node=NAME opens that node.
  const follow = () => {
    if (!location.hash.startsWith("#node=")) return;
    let name;
    try { name = decodeURIComponent(location.hash.slice(6)); } catch { return; }
    const node = nodes.find((each) => each.name === name);
    if (!node) return;
    found = [node];
    state.page = 0;
    show();
    table.querySelector(".open")?.click();
    byId("nodes").scrollIntoView();
    table.querySelector(".open")?.focus();
  };

  byId("finder").hidden = false;
  mark();
  search();
  follow();
  addEventListener("hashchange", follow);
})();
