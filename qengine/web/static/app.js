// The page: sends the form to the JSON API and shows the answer. It calculates nothing.
"use strict";
(() => {
  const form = document.getElementById("form");
  const results = document.getElementById("results");
  const message = document.getElementById("message");
  const statusLine = document.getElementById("status");
  const progress = document.getElementById("progress");
  const runButton = document.getElementById("run");
  const cancelButton = document.getElementById("cancel");
  const fileField = document.getElementById("file");
  const example = JSON.parse(form.dataset.example);
  const addresses = form.dataset.api.split(" ");
  // Longer links go behind the #, which no server sees and no server limits; browsers take two million characters.
  const QUERY = 6000;
  const LONGEST = 1500000;
  const TOO_LONG = "These samples are too many for a link.";
  let controller = null; // of the request that is under way
  let sweep = null; // the server's name of the sweep that is under way

  // --- the form ----------------------------------------------------------------------------------------------------

  const fields = () => [...form.querySelectorAll("[data-field]")];
  const boxes = (name) => [...form.querySelectorAll(`input[type=checkbox][name="${name}"]`)];
  const isList = (name) => form.querySelector(`[data-field="${name}"] .chips`) !== null;

  function valuesOf(name) {
    const ticks = boxes(name);
    if (ticks.length) return ticks.filter((box) => box.checked).map((box) => box.value);
    return [form.elements[name].value];
  }

  function showWhatMatters() {
    for (const field of fields()) {
      const when = field.dataset.when && JSON.parse(field.dataset.when);
      field.hidden = Boolean(when) && !Object.entries(when).every(
        ([name, wanted]) => valuesOf(name).some((value) => wanted.includes(value)));
    }
  }

  // The inputs as (name, value), in the order of the form; what means nothing beside another is left out.
  function pairs() {
    const found = [];
    for (const field of fields()) {
      const name = field.dataset.field;
      if (field.hidden || name === "file") continue;
      for (const value of valuesOf(name)) if (value !== "") found.push([name, value]);
    }
    return found;
  }

  function body() {
    const data = {};
    for (const field of fields()) if (isList(field.dataset.field)) data[field.dataset.field] = [];
    for (const [name, value] of pairs()) {
      if (isList(name)) data[name].push(value);
      else data[name] = value;
    }
    return data;
  }

  function fill(given) {
    for (const field of fields()) {
      const name = field.dataset.field;
      if (name === "file") continue;
      const value = given[name];
      const ticks = boxes(name);
      if (ticks.length) {
        const wanted = value === undefined ? [] : [value].flat().map(String);
        for (const box of ticks) box.checked = wanted.includes(box.value);
      } else if (value !== undefined) {
        form.elements[name].value = value;
      }
    }
    showWhatMatters();
  }

  // --- errors ------------------------------------------------------------------------------------------------------

  function clearErrors() {
    message.hidden = true;
    for (const place of form.querySelectorAll(".field .error")) { place.hidden = true; place.textContent = ""; }
    for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
  }

  function showError(error) {
    clearErrors();
    let first = null;
    const elsewhere = [];
    for (const [name, text] of Object.entries(error.fields)) {
      const place = document.getElementById(`${name}-error`);
      if (!place) { elsewhere.push(text); continue; }
      place.textContent = text;
      place.hidden = false;
      place.closest("[data-field]").hidden = false;
      const control = document.getElementById(name) || boxes(name)[0];
      control.setAttribute("aria-invalid", "true");
      first = first || control;
    }
    if (!first || elsewhere.length) {
      message.textContent = first ? elsewhere.join(" ") : error.message;
      message.hidden = false;
    }
    (first || message).focus();
    statusLine.textContent = "Not calculated: see what is marked.";
  }

  // --- asking ------------------------------------------------------------------------------------------------------

  const keepsFile = () => Boolean(fileField && fileField.files.length);

  async function ask(address, signal, as = "json") {
    const query = as === "json" ? "" : `?as=${as}`;
    if (keepsFile()) {
      const data = new FormData();
      for (const [name, value] of pairs()) if (name !== "values") data.append(name, value);
      data.append("file", fileField.files[0]);
      return fetch(`${address}/form${query}`, { method: "POST", body: data, signal });
    }
    return fetch(address + query, {
      method: "POST", body: JSON.stringify(body()), signal, headers: { "content-type": "application/json" },
    });
  }

  async function refusalOf(response) {
    try { return (await response.json()).error; } catch { return { message: `The server answered ${response.status}.`, fields: {} }; }
  }

  function busy(running) {
    runButton.setAttribute("aria-busy", String(running));
    cancelButton.hidden = !running;
  }

  async function run() {
    if (controller) controller.abort();
    const mine = controller = new AbortController();
    clearErrors();
    progress.hidden = true;
    const begun = performance.now();
    const later = setTimeout(() => { busy(true); statusLine.textContent = "Calculating ..."; }, 120);
    const inputs = pairs();
    try {
      const answers = [];
      // Asked at once; shown as they come, the first one first.
      const asked = addresses.map((address) => ask(address, mine.signal));
      asked.forEach((one) => one.catch(() => {}));
      for (const one of asked) {
        const response = await one;
        if (!response.ok) { showError(await refusalOf(response)); return; }
        const lines = (response.headers.get("content-type") || "").startsWith("application/x-ndjson");
        const answer = lines ? await streamed(response) : await response.json();
        if (answer === null) return;
        answers.push(answer);
        show(answers);
        const spent = answers.reduce((sum, item) => sum + item.milliseconds, 0);
        const shown = performance.now() - begun;
        statusLine.textContent = answer.data.complete === false ? answer.summary
          : `Calculated in ${spent.toFixed(spent < 10 ? 1 : 0)} ms, shown after ${shown.toFixed(0)} ms.`;
        results.dataset.shown = shown.toFixed(1);
      }
      remember(inputs);
    } catch (error) {
      if (error.name === "AbortError") {
        if (controller === mine) statusLine.textContent = "Cancelled.";
      } else {
        showError({ message: "The server does not answer. Is qengine serve still running?", fields: {} });
      }
    } finally {
      clearTimeout(later);
      if (controller === mine) { controller = sweep = null; busy(false); progress.hidden = true; }
    }
  }

  // The answer at the end of lines of JSON; those before it say how far the work is.
  async function streamed(response) {
    busy(true);
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        const item = JSON.parse(line);
        if (item.sweep) sweep = item.sweep;
        if (item.progress) {
          const { done: pairsDone, total, seconds } = item.progress;
          progress.hidden = false;
          document.getElementById("bar").value = pairsDone / total;
          document.getElementById("done").textContent = `${pairsDone.toLocaleString("en")} of ${total.toLocaleString("en")} pairs, ${seconds} s`;
        }
        if (item.error) { showError(item.error); return null; }
        if (item.answer) return item.answer;
      }
    }
    showError({ message: "The server stopped before it had an answer.", fields: {} });
    return null;
  }

  async function download(kind) {
    clearErrors();
    statusLine.textContent = `Writing the ${kind.toUpperCase()} ...`;
    try {
      const response = await ask(addresses[0], undefined, kind);
      if (!response.ok) { showError(await refusalOf(response)); return; }
      const name = /filename="([^"]+)"/.exec(response.headers.get("content-disposition") || "");
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await response.blob());
      link.download = name ? name[1] : `tensor.${kind}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
      statusLine.textContent = `${link.download} was written.`;
    } catch {
      showError({ message: "The server does not answer. Is qengine serve still running?", fields: {} });
    }
  }

  // --- links -------------------------------------------------------------------------------------------------------

  // The address of a page with these inputs; null where they are too long, or a file that no link can hold.
  function linkOf(path, found) {
    if (keepsFile() || found.reduce((sum, [, value]) => sum + value.length, 0) > LONGEST) return null;
    const query = new URLSearchParams(found).toString();
    if (query.length > LONGEST) return null;
    return path + (query ? (query.length <= QUERY ? "?" : "#") + query : "");
  }

  function remember(inputs) {
    const link = linkOf(location.pathname, inputs);
    history.replaceState(null, "", link === null ? location.pathname : link);
  }

  async function copyLink() {
    const link = linkOf(location.pathname, pairs());
    if (link === null) { statusLine.textContent = TOO_LONG; return; }
    history.replaceState(null, "", link);
    try {
      await navigator.clipboard.writeText(location.origin + link);
      statusLine.textContent = "The link is copied; it holds every input.";
    } catch {
      statusLine.textContent = "The link is in the address bar; it holds every input.";
    }
  }

  function restore() {
    const given = new URLSearchParams(location.search || (location.hash.includes("=") ? location.hash.slice(1) : ""));
    if (![...given.keys()].length) { showWhatMatters(); return; }
    const data = {};
    for (const [name, value] of given) {
      if (isList(name)) (data[name] = data[name] || []).push(value);
      else data[name] = value;
    }
    fill(data);
    run();
  }

  // --- answers -----------------------------------------------------------------------------------------------------

  // An element with attributes and children; text is never read as HTML.
  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) if (value !== "" && value !== false) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  function tile(item) {
    const value = make("dd", { class: item.value.length > 22 ? "value long" : "value" }, item.value);
    if (item.unit) value.append(" ", make("span", { class: "unit" }, item.unit));
    return make("div", { class: "tile", "data-tile": item.id }, make("dt", {}, item.name), value, make("dd", { class: "meaning" }, item.meaning));
  }

  function table(data) {
    const head = make("tr");
    for (const column of data.columns) head.append(make("th", { scope: "col", class: column.right ? "right" : "" }, column.name));
    const rows = data.rows.map((cells, k) => {
      const best = data.best[k] || [];
      return make("tr", {}, ...cells.map((cell, j) => {
        const column = data.columns[j];
        const classes = [column.right && "right", column.wrap && "wrap", best.includes(j) && "best"].filter(Boolean);
        return make("td", { class: classes.join(" ") }, cell);
      }));
    });
    const whole = make("table");
    if (data.title || data.caption) {
      whole.append(make("caption", {}, data.title, data.caption ? make("span", { class: "unit" }, ` ${data.caption}`) : ""));
    }
    whole.append(make("thead", {}, head), make("tbody", {}, ...rows));
    return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": data.title || "Table" }, whole);
  }

  function section(part, drawing) {
    const content = part.text.map((line) => make("p", {}, line));
    if (part.figures.length) {
      const figures = part.figures.map((figure) => {
        const bars = figure.data.some((trace) => trace.orientation === "h" && trace.y.length > 8);
        const long = bars || (figure.data.length > 4 && innerWidth < 1180); // there the legend takes a line a trace
        const graph = make("div", { class: long ? "graph tall" : "graph", id: `graph-${figure.id}`, role: "img", "aria-label": `${figure.title}. ${figure.alt}` });
        drawing.push({ graph, figure });
        return make("figure", {}, make("figcaption", {}, figure.title), graph);
      });
      content.push(make("div", { class: figures.length === 1 ? "figures one" : "figures" }, ...figures));
    }
    content.push(...part.tables.map(table));
    const id = `title-${part.id}`;
    const title = make("h3", { id }, part.title);
    if (part.folded) content.splice(0, content.length, make("details", {}, make("summary", {}, part.title), ...content));
    return make("section", { class: "card", id: `section-${part.id}`, "aria-labelledby": part.folded ? "" : id }, ...(part.folded ? [] : [title]), ...content);
  }

  function show(answers) {
    drawn.forEach(({ graph }) => window.Plotly && Plotly.purge(graph));
    drawn = [];
    const parts = [];
    for (const answer of answers) {
      parts.push(make("h2", {}, answer === answers[0] ? "Result" : answer.summary));
      if (answer === answers[0]) parts.push(make("p", { class: "summary" }, answer.summary));
      parts.push(make("dl", { class: "tiles" }, ...answer.tiles.map(tile)));
      parts.push(...answer.sections.map((part) => section(part, drawn)));
    }
    results.replaceChildren(...parts);
    drawAll();
  }

  // --- graphs ------------------------------------------------------------------------------------------------------

  let drawn = [];

  const probe = make("span", { hidden: "" });
  document.body.append(probe);
  function colour(name) {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  }

  // A copy of what the server sent, in which "@name" is the theme's colour of that name.
  function coloured(item) {
    if (typeof item === "string") return item.startsWith("@") ? colour(item.slice(1)) : item;
    if (Array.isArray(item)) return typeof item[0] === "number" ? item : item.map(coloured);
    if (item === null || typeof item !== "object") return item;
    return Object.fromEntries(Object.entries(item).map(([key, value]) => [key, key === "text" || key === "name" ? value : coloured(value)]));
  }

  function layoutOf(figure) {
    const narrow = innerWidth < 680;
    const axis = (given) => ({
      gridcolor: colour("line"), linecolor: colour("edge"), zerolinecolor: colour("line"), zerolinewidth: 2, automargin: true, ticks: "outside",
      tickcolor: colour("line"), exponentformat: "e", ...coloured(given || {}),
      title: { text: (given && given.title && given.title.text) || "", standoff: 8, font: { size: 12 } },
    });
    const { xaxis, yaxis, ...rest } = figure.layout;
    return {
      margin: { l: 52, r: 14, t: 14, b: 44 }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("text") },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: { size: narrow ? 11 : 12 }, bgcolor: "rgba(0,0,0,0)" },
      hoverlabel: { bgcolor: colour("card"), bordercolor: colour("edge"), font: { color: colour("text") } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("muted"), activecolor: colour("accent") },
      dragmode: narrow ? false : "zoom", ...coloured(rest), xaxis: axis(xaxis), yaxis: axis(yaxis),
    };
  }

  const CONFIG = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"], plotGlPixelRatio: 1 };

  // One graph a frame, so that the numbers are there first and the page stays awake.
  function drawAll() {
    const waiting = [...drawn];
    const batch = drawn;
    const next = () => {
      if (batch !== drawn || !window.Plotly) return;
      const item = waiting.shift();
      if (!item) { results.dataset.drawn = String(drawn.length); return; }
      Plotly.react(item.graph, coloured(item.figure.data), layoutOf(item.figure), CONFIG);
      requestAnimationFrame(next);
    };
    delete results.dataset.drawn;
    requestAnimationFrame(next);
  }
  document.addEventListener("themechange", drawAll);

  // --- what people do ----------------------------------------------------------------------------------------------

  form.addEventListener("change", showWhatMatters);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const kind = event.submitter && event.submitter.dataset.download;
    if (kind) download(kind);
    else run();
  });
  form.addEventListener("reset", () => {
    if (controller) controller.abort();
    // The browser puts back what the page was loaded with, which may be a link's inputs: back to the beginning.
    if (location.search || location.hash) { setTimeout(() => { location.href = location.pathname; }); return; }
    setTimeout(() => {
      clearErrors();
      drawn = [];
      results.replaceChildren();
      statusLine.textContent = "";
      showWhatMatters();
    });
  });
  document.getElementById("example").addEventListener("click", () => {
    if (fileField) fileField.value = "";
    clearErrors();
    fill(example);
    statusLine.textContent = "The example is loaded.";
    runButton.focus();
  });
  // A sweep is asked for what it has; whatever does not answer to that is left.
  cancelButton.addEventListener("click", async () => {
    const mine = controller;
    if (!mine) return;
    if (!sweep) { mine.abort(); return; }
    const name = sweep;
    sweep = null;
    statusLine.textContent = "Cancelling ...";
    const response = await fetch(`/api/sweep/${name}/cancel`, { method: "POST" }).catch(() => null);
    if (!response || !response.ok) mine.abort();
  });
  document.getElementById("link").addEventListener("click", copyLink);
  const compare = document.getElementById("compare");
  if (compare) {
    compare.addEventListener("click", () => {
      const shared = pairs().filter(([name]) => ["name", "values", "shape", "nonfinite", "low", "high"].includes(name));
      const more = [["bits", "4"], ["bits", "6"], ["bits", "8"], ["mapping", "symmetric-signed"], ["mapping", "asymmetric-signed"],
        ["range", "minmax"], ["range", "mse"], ["granularity", "tensor"]];
      if (shared.some(([name]) => name === "low")) more.push(["range", "custom"]);
      const link = linkOf("/compare", [...shared, ...more]);
      if (link === null) statusLine.textContent = `${TOO_LONG} Choose the file on the page Compare.`;
      else location.href = link;
    });
  }
  if (fileField) {
    fileField.addEventListener("change", async () => {
      clearErrors();
      if (!keepsFile()) return;
      const file = fileField.files[0];
      const data = new FormData();
      data.append("file", file);
      statusLine.textContent = `Reading ${file.name} ...`;
      try {
        const response = await fetch("/api/values", { method: "POST", body: data });
        if (!response.ok) { showError(await refusalOf(response)); return; }
        const found = await response.json();
        const shape = found.shape.join(", ");
        form.elements.name.value = file.name.replace(/\.[^.]*$/, "").slice(0, 200) || "tensor";
        form.elements.shape.value = found.shape.length > 1 ? shape : "";
        const about = `${file.name}: ${found.count.toLocaleString("en")} samples, ${found.dtype}, shape ${shape}`;
        if (found.text !== null) {
          form.elements.values.value = found.text;
          fileField.value = "";
          statusLine.textContent = `${about}; they are in the field above.`;
        } else {
          form.elements.values.value = "";
          statusLine.textContent = `${about}. The file itself is sent when you calculate.`;
        }
      } catch {
        showError({ message: "The file could not be read.", fields: { file: "The server did not answer." } });
      }
    });
  }
  form.elements.values && form.elements.values.addEventListener("input", () => { fileField.value = ""; });
  restore();
})();
