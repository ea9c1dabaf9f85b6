(() => {
  "use strict";
  const root = document.currentScript.closest(".microscope");
  const trajectories = JSON.parse(root.querySelector(".data").textContent);
  const find = (name) => root.querySelector("." + name);

  const DISTRIBUTIONS = {
    base: "base π₀",
    student: "student π_θ",
    teacher: "teacher π_T",
    reference: "probe π_ref",
    target: "purified target P",
  };
  const QUANTITIES = [
    {
      label: "teacher ▀ and target ▄ against base", parts: ["teacher_minus_base", "target_minus_base"], scale: "base", signed: true,
      says: "What becomes of the written token: upper half log π_T − log π₀, lower half log P − log π₀. " +
        "Orange: the teacher (above) or the purified target (below) wants it less than the base does; blue: more.",
    },
    {
      label: "JSD(student ‖ target)", parts: ["jsd_target"], scale: "jsd", signed: false,
      says: "How far the student is from the purified target here, over the whole vocabulary (Eq. 18).",
    },
    {
      label: "JSD(student ‖ teacher)", parts: ["jsd_teacher"], scale: "jsd", signed: false,
      says: "How far the student is from the raw teacher, which standard OPSD distils (Eq. 3).",
    },
    {
      label: "Δ_it of the written token", parts: ["delta_it"], scale: "delta", signed: true,
      says: "log π_T − log π_ref: what the question adds to the reference (Eq. 13). Orange: it speaks against the written token.",
    },
    {
      label: "Δ_ref of the written token", parts: ["delta_ref"], scale: "delta", signed: true,
      says: "log π_ref − log π_θ: where the reference alone would pull the student (Eq. 4). Orange: away from the written token.",
    },
    {
      label: "student − base", parts: ["student_minus_base"], scale: "student", signed: true,
      says: "log π_θ − log π₀: what training has changed. Orange: the student writes the token less readily than the base.",
    },
  ];
  const NUMBERS = {
    "JSD(student ‖ target)": "jsd_target",
    "JSD(student ‖ teacher)": "jsd_teacher",
    "Δ_it": "delta_it",
    "Δ_ref": "delta_ref",
    "student − base": "student_minus_base",
    "teacher − base": "teacher_minus_base",
    "target − base": "target_minus_base",
  };

  let trajectory = null, quantity = QUANTITIES[0], options = [], chosen = 0;

  // Elements and texts. Model text goes into textContent alone.

  function element(tag, settings, ...children) {
    const made = Object.assign(document.createElement(tag), settings);
    made.append(...children);
    return made;
  }

  function percent(p) {
    if (p >= 0.9995) return "100%";
    if (p < 0.0001) return "<0.01%";
    return (100 * p).toFixed(p >= 0.0995 ? 0 : p >= 0.00995 ? 1 : 2) + "%";
  }

  function nats(name, value) {
    if (name.startsWith("jsd")) return value.toFixed(4);
    return (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);
  }

  function wordText(id) {
    const text = trajectory.vocabulary[id].replaceAll("\n", "");
    return text.replace(/^ +| +$/g, (spaces) => "␣".repeat(spaces.length)) || "∅";
  }

  function word(id) {
    return element("span", { className: "word", textContent: wordText(id), title: "token " + id });
  }

  function filled(made, share) {
    made.style.setProperty("--share", share);
    return made;
  }

  function bar(label, figure, share) {
    return filled(element("li", {}, label, element("span", { className: "figure", textContent: figure })), share);
  }

  // Colours. A scale is one for all completions, so that they can be compared; a hundredth of the values is beyond it.

  const scales = {};
  for (const { parts, scale } of QUANTITIES) {
    const sizes = trajectories.flatMap((t) => t.tokens.flatMap((token) => parts.map((part) => Math.abs(token.numbers[part]))));
    sizes.sort((a, b) => a - b);
    scales[scale] = Math.max(scales[scale] ?? 1e-3, sizes[Math.floor(0.99 * (sizes.length - 1))] ?? 0);
  }

  function colour(value) {
    const tone = quantity.signed ? (value < 0 ? "--less" : "--more") : "--size";
    const share = Math.min(Math.abs(value) / scales[quantity.scale], 1);
    return `color-mix(in srgb, var(${tone}) ${Math.round(72 * share)}%, transparent)`;
  }

  function paint() {
    for (const [place, option] of options.entries()) {
      const values = quantity.parts.map((part) => trajectory.tokens[place].numbers[part]);
      option.style.setProperty("--upper", colour(values[0]));
      option.style.setProperty("--lower", colour(values.at(-1)));
    }
    const limit = scales[quantity.scale], shown = limit.toFixed(limit < 0.1 ? 3 : 2);
    find("low").textContent = quantity.signed ? `≤ −${shown}` : "0";
    find("high").textContent = `≥ ${shown} nats`;
    const stops = quantity.signed ? [-limit, 0, limit] : [0, limit];
    find("ramp").style.background = `linear-gradient(90deg, ${stops.map(colour).join(", ")})`;
    find("legend").ariaLabel = `Scale from ${find("low").textContent} to ${find("high").textContent}`;
    find("says").textContent = quantity.says;
  }

  // The panel of the chosen token.

  function block(title, content) {
    return element("div", {}, element("h4", { textContent: title }), content);
  }

  function likeliest(token, name) {
    const rows = token.top[name].map(([id, p]) => {
      const row = bar(word(id), percent(p), p);
      row.classList.toggle("written", id === token.id);
      return row;
    });
    return block(DISTRIBUTIONS[name], element("ul", {}, ...rows));
  }

  function changes(token, verb, anchor) {
    const rows = token[verb][anchor].map(([id, before, after]) => {
      const row = bar(word(id), `${percent(before)} → ${percent(after)}`, Math.abs(after - before));
      row.classList.toggle("written", id === token.id);
      return row;
    });
    const nothing = element("p", { className: "note", textContent: "nothing by 0.01% or more" });
    const title = `Target ${verb === "raised" ? "raises" : "lowers"} against the ${anchor}`;
    return block(title, rows.length ? element("ul", { className: verb }, ...rows) : nothing);
  }

  function openPanel() {
    const token = trajectory.tokens[chosen];
    const own = Object.entries(DISTRIBUTIONS).map(([name, title]) => {
      const p = token.probabilities[name];
      return bar(title, percent(p), p);
    });
    const numbers = Object.entries(NUMBERS).map(([label, name]) => bar(label, nats(name, token.numbers[name]), 0));
    const place = element("span", { className: "place", textContent: `  token ${chosen + 1} of ${options.length}, id ${token.id}` });
    find("panel").replaceChildren(
      element("h3", {}, word(token.id), place),
      element("div", { className: "grid numbers" },
        block("Probability of the written token", element("ul", {}, ...own)),
        block("In nats", element("ul", {}, ...numbers))),
      element("div", { className: "grid tops" }, ...Object.keys(DISTRIBUTIONS).map((name) => likeliest(token, name))),
      element("div", { className: "grid changes" },
        ...["base", "teacher"].flatMap((anchor) => ["raised", "lowered"].map((verb) => changes(token, verb, anchor)))));
  }

  function choose(place) {
    options[chosen].tabIndex = -1;
    options[chosen].ariaSelected = "false";
    chosen = Math.max(0, Math.min(place, options.length - 1));
    const { id, probabilities: p } = trajectory.tokens[chosen];
    options[chosen].tabIndex = 0;
    options[chosen].ariaSelected = "true";
    options[chosen].ariaLabel = `${wordText(id)}: base ${percent(p.base)}, teacher ${percent(p.teacher)}, target ${percent(p.target)}`;
    openPanel();
  }

  function focus(place) {
    choose(place);
    options[chosen].focus();
  }

  // The completion, and the table of its markers.

  function markerTable() {
    const names = Object.keys(DISTRIBUTIONS), starts = trajectory.markers.map(([first]) => first);
    const probabilities = starts.map((first) => names.map((name) => trajectory.tokens[first].probabilities[name]));
    const row = (head, values, className) => element("tr", { className }, element("th", { scope: "row" }, head),
      ...values.map((p) => filled(element("td", { textContent: percent(p) }), p)));
    const means = names.map((_, k) => probabilities.reduce((sum, values) => sum + values[k], 0) / starts.length);
    const rows = starts.map((first, k) =>
      row(element("button", { type: "button", onclick: () => focus(first) }, word(trajectory.tokens[first].id)), probabilities[k], ""));
    return element("table", {},
      element("caption", { textContent: "Epistemic markers: probability of writing each where it stands" }),
      element("thead", {}, element("tr", {}, ...["written", "base", "student", "teacher", "probe", "target"].map(
        (textContent) => element("th", { scope: "col", textContent })))),
      element("tbody", {}, row(`mean of ${starts.length}`, means, "mean"), ...rows));
  }

  function show(place) {
    trajectory = trajectories[place];
    options = trajectory.tokens.map(({ id }, k) => {
      const textContent = trajectory.vocabulary[id];
      const option = element("span", { className: "token", role: "option", tabIndex: -1, ariaSelected: "false", textContent });
      option.dataset.place = k;
      option.classList.toggle("empty", !textContent);
      option.classList.toggle("marker", trajectory.markers.some(([first, last]) => first <= k && k <= last));
      return option;
    });
    find("text").replaceChildren(...options, trajectory.finish_reason === "stop" ? "" : "… (cut off)");
    find("problem").textContent = trajectory.problem;
    find("reference").textContent = trajectory.reference + (trajectory.reference_cut ? "\n(shortened in the prompts)" : "");
    const none = element("p", { className: "note", textContent: "No epistemic markers in this completion." });
    find("markers").replaceChildren(trajectory.markers.length ? markerTable() : none);
    chosen = 0;
    paint();
    choose(trajectory.markers.length ? trajectory.markers[0][0] : 0);
  }

  // Mouse and keyboard.

  function destination({ key, shiftKey }) {
    const starts = trajectory.markers.map(([first]) => first);
    const next = starts.find((first) => first > chosen) ?? chosen;
    const previous = starts.findLast((first) => first < chosen) ?? chosen;
    return {
      ArrowRight: shiftKey ? next : chosen + 1,
      ArrowLeft: shiftKey ? previous : chosen - 1,
      Home: 0,
      End: options.length - 1,
      n: next,
      p: previous,
    }[key];
  }

  find("text").addEventListener("click", (event) => {
    const option = event.target.closest(".token");
    if (option) focus(Number(option.dataset.place));
  });
  find("text").addEventListener("keydown", (event) => {
    const place = event.ctrlKey || event.metaKey || event.altKey ? undefined : destination(event);
    if (place === undefined) return;
    event.preventDefault();
    focus(place);
  });

  find("quantity").append(...QUANTITIES.map(({ label }) => element("option", { textContent: label })));
  find("quantity").addEventListener("change", () => {
    quantity = QUANTITIES[find("quantity").selectedIndex];
    paint();
  });
  for (const candidate of new Set(trajectories.map((t) => t.candidate))) {
    const group = element("optgroup", { label: candidate });
    for (const [value, t] of trajectories.entries()) {
      const markers = t.markers.length === 1 ? "1 marker" : `${t.markers.length} markers`;
      const textContent = `${candidate}: ${t.id}, ${t.tokens.length} tokens, ${markers}`;
      if (t.candidate === candidate) group.append(element("option", { value, textContent }));
    }
    find("chooser").append(group);
  }
  find("chooser").addEventListener("change", () => show(Number(find("chooser").value)));
  show(0);
})();
