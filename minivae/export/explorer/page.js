// The explorer of a latent space: decodes z by the graph of `export/graph.py`, and draws what comes. No library.
"use strict";

const model = JSON.parse(document.getElementById("model").textContent);
const { features: D, latent: L, shape, columns } = model;
const $ = (id) => document.getElementById(id);

// ---- arrays ---------------------------------------------------------------------------------------------------------

function bytes(text) {
  const binary = atob(text), out = new Uint8Array(binary.length);
  for (let i = 0; i < out.length; i++) out[i] = binary.charCodeAt(i);
  return out;
}

// Numbers of 16 bits → Float32Array: a sign, 5 bits of exponent, 10 of fraction (IEEE 754).
function halves(words) {
  const out = new Float32Array(words.length);
  for (let i = 0; i < words.length; i++) {
    const sign = words[i] & 0x8000 ? -1 : 1, exponent = (words[i] >> 10) & 31, fraction = words[i] & 1023;
    out[i] = sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -24 * fraction);
  }
  return out;
}

const READERS = {
  float64: (buffer) => new Float64Array(buffer), float32: (buffer) => new Float32Array(buffer),
  float16: (buffer) => halves(new Uint16Array(buffer)), uint8: (buffer) => new Uint8Array(buffer),
};
const array = (stored) => (Array.isArray(stored.data) ? stored.data : READERS[stored.dtype](bytes(stored.data).buffer));

// ---- the decoder ----------------------------------------------------------------------------------------------------

const values = new Map();  // name → numbers
const shapes = new Map();  // name of a constant → its shape
for (const [name, stored] of Object.entries(model.constants)) {
  values.set(name, array(stored));
  shapes.set(name, stored.shape);
}

const each = (f) => (y, x) => { for (let i = 0; i < y.length; i++) y[i] = f(x[i]); };

// y = f(a, b): the shorter one is repeated, as NumPy does it: (D) along (K, D), (K, 1) across.
const both = (f) => (y, a, b, node) => {
  const [na, nb] = [a.length, b.length];
  const across = (name, n) => n > 1 && n < y.length && (shapes.get(name) || []).at(-1) === 1;
  const [ra, rb] = [across(node.inputs[0], na), across(node.inputs[1], nb)];
  const [wide, tall] = [y.length / na, y.length / nb];
  for (let i = 0; i < y.length; i++) {
    y[i] = f(ra ? a[Math.floor(i / wide)] : a[i % na], rb ? b[Math.floor(i / tall)] : b[i % nb]);
  }
};

const OPS = {
  Add: both((a, b) => a + b), Sub: both((a, b) => a - b), Mul: both((a, b) => a * b), Div: both((a, b) => a / b),
  Min: both(Math.min), Max: both(Math.max), Less: both((a, b) => (a < b ? 1 : 0)),
  Abs: each(Math.abs), Neg: each((a) => -a), Exp: each(Math.exp), Tanh: each(Math.tanh), Relu: each((a) => Math.max(a, 0)),
  Sigmoid: each((a) => 1 / (1 + Math.exp(-a))),
  Softplus: each((a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)))),
  Identity: each((a) => a), Cast: each((a) => a), Reshape: each((a) => a),
  Slice(y, x, [start]) { for (let i = 0; i < y.length; i++) y[i] = x[start + i]; },
  Where(y, c, a, b) { for (let i = 0; i < y.length; i++) y[i] = c[i] ? a[i] : b[i]; },
  MatMul(y, x, W) {
    y.fill(0);
    for (let k = 0, n = y.length; k < x.length; k++) {
      const xk = x[k];
      if (xk !== 0) for (let j = 0, at = k * n; j < n; j++) y[j] += xk * W[at + j];
    }
  },
  Softmax(y, x) {  // over K of (K, D)
    for (let d = 0; d < D; d++) {
      let largest = -Infinity, sum = 0;
      for (let i = d; i < x.length; i += D) largest = Math.max(largest, x[i]);
      for (let i = d; i < x.length; i += D) sum += y[i] = Math.exp(x[i] - largest);
      for (let i = d; i < x.length; i += D) y[i] /= sum;
    }
  },
  ReduceSum(y, x) {
    y.fill(0);
    for (let i = 0; i < x.length; i++) y[i % D] += x[i];
  },
};

function width(node) {
  const length = (name) => values.get(name).length;
  if (node.op === "MatMul") return length(node.inputs[1]) / length(node.inputs[0]);
  if (node.op === "Slice") return values.get(node.inputs[2])[0] - values.get(node.inputs[1])[0];
  if (node.op === "ReduceSum") return D;
  return node.op === "Reshape" ? length(node.inputs[0]) : Math.max(...node.inputs.map(length));
}

// z (L numbers) → E[x|z], D numbers in the data's units; valid until the next call.
function decode(z) {
  values.set("z", z);
  for (const node of model.nodes) {
    if (!values.has(node.output)) values.set(node.output, new Float64Array(width(node)));
    OPS[node.op](values.get(node.output), ...node.inputs.map((name) => values.get(name)), node);
  }
  return values.get("x_mean");
}

// ---- the state ------------------------------------------------------------------------------------------------------

const codes = array(model.codes), originals = array(model.originals), N = model.rows.length;
const code = (row) => codes.subarray(row * L, (row + 1) * L);
const order = Array.from({ length: L }, (_, l) => l).sort((a, b) => model.kl[b] - model.kl[a]);
const total = model.kl.reduce((a, b) => a + b, 0);
let reach = 3.6;
for (const value of codes) reach = Math.max(reach, Math.abs(value) * 1.05);
reach = Math.ceil(reach * 10) / 10;

const z = new Float64Array(L);
const state = { across: order[0], up: L > 1 ? order[1] : -1, colour: null, row: -1, playing: false, frames: 0 };
let asked = false;

function ask() {  // one drawing a frame
  if (!asked) {
    asked = true;
    requestAnimationFrame(() => { asked = false; show(); });
  }
}

function move(values_) {
  for (let l = 0; l < L; l++) z[l] = values_[l];
  ask();
}

function choose(row) {
  state.row = (row + N) % N;
  move(code(state.row));
}

const subscript = (n) => String(n).replace(/\d/g, (digit) => "₀₁₂₃₄₅₆₇₈₉"[digit]);
const name = (l) => "z" + subscript(l + 1);
const digits = (x) => {
  const text = Math.abs(x) >= 1e5 || (x !== 0 && Math.abs(x) < 1e-3) ? x.toExponential(2) : String(+x.toPrecision(4));
  return text.replace("-", "−");
};
const fixed = (x) => x.toFixed(2).replace("-", "−");
const labelOf = (row) => (model.labels === null ? "" : model.labels.names ? model.labels.names[model.labels.index[row]] :
  digits(model.labels.values[row]));
const title = (row) => `row ${model.rows[row]}` + (model.labels === null ? "" : ` (${labelOf(row)})`);

// ---- colours of the dots --------------------------------------------------------------------------------------------

const VIRIDIS = [[68, 1, 84], [71, 44, 122], [59, 81, 139], [44, 113, 142], [33, 144, 141], [39, 173, 129], [92, 200, 99],
  [170, 220, 50], [253, 231, 37]];

function ramp(t) {
  const at = Math.min(Math.max(t, 0), 1) * (VIRIDIS.length - 1), k = Math.min(Math.floor(at), VIRIDIS.length - 2);
  return `rgb(${VIRIDIS[k].map((a, i) => Math.round(a + (at - k) * (VIRIDIS[k + 1][i] - a))).join()})`;
}

function original(row, column) {
  return originals[row * D + column];
}

// What the dots may be coloured by: {text, classes: [names], of: row → class} or {text, low, high, of: row → number}.
const colours = [];
if (model.labels !== null && model.labels.names) {
  colours.push({ text: "label", classes: model.labels.names, of: (row) => model.labels.index[row] });
} else if (model.labels !== null) {
  colours.push(range("label", (row) => model.labels.values[row]));
}
if (!shape) for (let d = 0; d < Math.min(D, model.shown); d++) colours.push(range(columns[d], (row) => original(row, d)));
colours.push({ text: "none", classes: null, of: () => 0 });

function range(text, of) {
  let low = Infinity, high = -Infinity;
  for (let row = 0; row < N; row++) { low = Math.min(low, of(row)); high = Math.max(high, of(row)); }
  return { text, low, high, of };
}

function colourOf(row) {
  const by = state.colour, value = by.of(row);
  if (by.classes) return model.palette[value % model.palette.length];
  return by.text === "none" ? style("--blue") : ramp((value - by.low) / (by.high - by.low || 1));
}

const style = (variable) => getComputedStyle(document.documentElement).getPropertyValue(variable).trim();

function legend() {
  const by = state.colour, items = [];
  if (by.classes) {
    by.classes.forEach((text, k) => {
      const item = document.createElement("li"), dot = document.createElement("i");
      dot.style.background = model.palette[k % model.palette.length];
      item.append(dot, text);
      items.push(item);
    });
  } else if (by.low !== undefined) {
    const item = document.createElement("li"), bar = document.createElement("i");
    bar.className = "ramp";
    bar.style.background = `linear-gradient(90deg, ${[0, 0.25, 0.5, 0.75, 1].map(ramp).join()})`;
    item.append(`${digits(by.low)} `, bar, ` ${digits(by.high)}`);
    items.push(item);
  }
  $("legend").replaceChildren(...items);
}

// ---- the plane ------------------------------------------------------------------------------------------------------

const map = $("map"), dots = document.createElement("canvas");
let unit = 1, size = [0, 0];  // pixels for 1 of z; width and height in CSS pixels

const spread = (row) => ((row * 0.6180339887) % 1 - 0.5) * 2.4;  // where there is one dimension: beside one another
const at = (values_, row) => [values_[state.across], state.up < 0 ? spread(row) : values_[state.up]];
const pixel = ([a, b]) => [size[0] / 2 + a * unit, size[1] / 2 - b * unit];

function drawDots() {
  const ratio = window.devicePixelRatio || 1;
  size = [map.clientWidth, map.clientHeight];
  for (const canvas of [map, dots]) { canvas.width = size[0] * ratio; canvas.height = size[1] * ratio; }
  unit = Math.min(size[0], size[1]) / 2 / reach;
  const pen = dots.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, ...size);
  pen.strokeStyle = style("--line");
  pen.lineWidth = 1;
  const [x0, y0] = pixel([0, 0]);
  for (const radius of state.up < 0 ? [] : [1, 2, 3]) {
    pen.beginPath();
    pen.arc(x0, y0, radius * unit, 0, 2 * Math.PI);
    pen.stroke();
  }
  pen.beginPath();
  pen.moveTo(0, y0); pen.lineTo(size[0], y0); pen.moveTo(x0, 0); pen.lineTo(x0, size[1]);
  pen.stroke();
  const radius = N > 800 ? 2.6 : 3.6;
  pen.globalAlpha = 0.78;
  pen.strokeStyle = style("--soft");  // an edge, for the dark colours on a dark ground and the light ones on a light one
  pen.lineWidth = 0.8;
  for (let row = 0; row < N; row++) {
    const [x, y] = pixel(at(code(row), row));
    pen.fillStyle = colourOf(row);
    pen.beginPath();
    pen.arc(x, y, radius, 0, 2 * Math.PI);
    pen.fill();
    pen.stroke();
  }
  pen.globalAlpha = 1;
  pen.lineWidth = 3;
  pen.strokeStyle = style("--card");
  pen.fillStyle = style("--soft");
  pen.font = "12px system-ui, sans-serif";
  pen.textAlign = "left";
  for (const radius of state.up < 0 ? [] : [1, 2, 3]) {
    const place = [`${radius}σ`, x0 + radius * unit * Math.SQRT1_2 + 3, y0 + radius * unit * Math.SQRT1_2 + 12];
    pen.strokeText(...place);
    pen.fillText(...place);
  }
  if (state.colour.classes && state.up >= 0) drawNames(pen);
  pen.fillStyle = style("--ink");
  pen.font = "14px system-ui, sans-serif";
  pen.textAlign = "right";
  pen.fillText(name(state.across), size[0] - 8, y0 - 7);
  if (state.up >= 0) { pen.textAlign = "left"; pen.fillText(name(state.up), x0 + 7, 16); }
  pen.textAlign = "left";
}

function drawNames(pen) {  // of the classes, at the median of their dots
  const middle = (list) => list.sort((a, b) => a - b)[list.length >> 1];
  pen.font = "600 17px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.lineWidth = 4;
  pen.lineJoin = "round";
  pen.strokeStyle = style("--card");
  pen.fillStyle = style("--ink");
  state.colour.classes.forEach((text, k) => {
    const rows = [...Array(N).keys()].filter((row) => state.colour.of(row) === k);
    if (!rows.length) return;
    const [x, y] = pixel([0, 1].map((axis) => middle(rows.map((row) => at(code(row), row)[axis]))));
    const short = text.length > 14 ? text.slice(0, 13) + "…" : text;
    pen.strokeText(short, x, y + 6);
    pen.fillText(short, x, y + 6);
  });
  pen.lineWidth = 1;
}

function drawMap() {
  const pen = map.getContext("2d"), ratio = window.devicePixelRatio || 1;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, map.width, map.height);
  pen.drawImage(dots, 0, 0);
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (state.row >= 0) ring(pen, pixel(at(code(state.row), state.row)), 7, style("--ink"), 1.5);
  const [x, y] = pixel(state.up < 0 ? [z[state.across], 0] : at(z, 0));
  ring(pen, [x, y], 11, style("--card"), 5);
  ring(pen, [x, y], 11, style("--mark"), 2.5);
  pen.fillStyle = style("--mark");
  pen.beginPath();
  pen.arc(x, y, 2.5, 0, 2 * Math.PI);
  pen.fill();
}

function ring(pen, [x, y], radius, colour, thick) {
  pen.strokeStyle = colour;
  pen.lineWidth = thick;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.stroke();
}

function place(event) {  // the pointer's place → z
  const box = map.getBoundingClientRect(), clamp = (v) => Math.min(Math.max(v, -reach * 1.2), reach * 1.2);
  z[state.across] = clamp((event.clientX - box.left - size[0] / 2) / unit);
  if (state.up >= 0) z[state.up] = clamp((size[1] / 2 - event.clientY + box.top) / unit);
  ask();
}

function nearest(x, y) {  // → [row, its distance in pixels]
  let best = [-1, Infinity];
  for (let row = 0; row < N; row++) {
    const [a, b] = pixel(at(code(row), row)), away = Math.hypot(a - x, b - y);
    if (away < best[1]) best = [row, away];
  }
  return best;
}

let pressed = null;
map.addEventListener("pointerdown", (event) => {
  pressed = [event.clientX, event.clientY];
  map.setPointerCapture(event.pointerId);
  stop();
});
map.addEventListener("pointermove", (event) => { if (pressed) place(event); });
map.addEventListener("pointerup", (event) => {
  const still = pressed && Math.hypot(event.clientX - pressed[0], event.clientY - pressed[1]) < 4;
  pressed = null;
  if (!still) return;
  const box = map.getBoundingClientRect(), [row, away] = nearest(event.clientX - box.left, event.clientY - box.top);
  if (away < 9) choose(row);
  else place(event);
});
map.addEventListener("pointercancel", () => { pressed = null; });
map.addEventListener("keydown", (event) => {
  const step = event.shiftKey ? 0.5 : 0.1;
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  if (moves[event.key]) {
    const [a, b] = moves[event.key];
    z[state.across] += a * step;
    if (state.up >= 0) z[state.up] += b * step;
    ask();
  } else if (event.key === "Home") move(new Float64Array(L));
  else if (event.key === "Enter") choose(nearest(...pixel(at(z, 0)))[0]);
  else return;
  event.preventDefault();
});

// ---- what is decoded ------------------------------------------------------------------------------------------------

function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

let pictures, rows;
if (shape) {
  const [height, wide] = shape;
  pictures = ["decoded", "original"].map((id) => {
    const canvas = make("canvas", { width: wide, height });
    canvas.setAttribute("role", "img");
    const caption = make("figcaption", {});
    $("output").append(make("figure", { id: `picture-${id}` }, canvas, caption));
    return { canvas, caption, image: new ImageData(wide, height) };
  });
  $("output").className = "pictures";
} else {
  rows = columns.slice(0, model.shown).map((text) => {
    const bar = make("i", {}), mark = make("u", { hidden: true }), value = make("output", {});
    value.setAttribute("aria-label", text);
    const line = make("div", { className: "column" }, make("b", { textContent: text, title: text }),
      make("div", { className: "track" }, bar, mark), value);
    return { line, bar, mark, value };
  });
  $("output").className = "table";
  $("output").tabIndex = 0;
  $("output").setAttribute("role", "group");
  $("output").setAttribute("aria-label", "Decoded values");
  $("output").append(...rows.map((row) => row.line));
  if (D > model.shown) $("output").append(make("p", { className: "note" }, `The first ${model.shown} of ${D} columns.`));
}

function paint({ canvas, image }, grey) {
  for (let i = 0; i < D; i++) {
    const shade = Math.round(255 * Math.min(Math.max(grey(i), 0), 1));
    image.data[4 * i] = image.data[4 * i + 1] = image.data[4 * i + 2] = shade;
    image.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function show() {
  state.frames++;
  const x = decode(z), row = state.row, own = row >= 0 && code(row).every((value, l) => value === z[l]);
  if (shape) {
    paint(pictures[0], (i) => x[i]);
    const said = own ? `reconstruction of ${title(row)}` : "E[x|z] at this z";
    write(pictures[0].caption, said);
    pictures[0].canvas.setAttribute("aria-label", said);
    pictures[1].canvas.parentNode.style.visibility = row < 0 ? "hidden" : "visible";
    if (row >= 0) {
      paint(pictures[1], (i) => original(row, i) / 255);
      write(pictures[1].caption, `original: ${title(row)}`);
      pictures[1].canvas.setAttribute("aria-label", `original of ${title(row)}`);
    }
  } else {
    rows.forEach(({ bar, mark, value }, d) => {
      const [low, high] = [model.low[d], model.high[d]], to = (v) => Math.min(Math.max((v - low) / (high - low || 1), 0), 1);
      const zero = low < 0 && high > 0 ? to(0) : 0, end = to(x[d]);
      bar.style.left = `${100 * Math.min(zero, end)}%`;
      bar.style.width = `${100 * Math.abs(end - zero)}%`;
      mark.hidden = row < 0;
      if (row >= 0) mark.style.left = `${100 * to(original(row, d))}%`;
      write(value, digits(x[d]));
    });
  }
  write($("about-row"), row < 0 ? "No row chosen: click a dot." : own ? `z is the posterior mean of ${title(row)}.` :
    `z has left ${title(row)}` + (shape ? "." : "; the mark in a bar is that row's value."));
  for (const { l, input, value } of sliders) {
    input.value = z[l];
    write(value, fixed(z[l]));
  }
  drawMap();
}

// ---- the controls ---------------------------------------------------------------------------------------------------

const sliders = order.map((l) => {
  const input = make("input", { type: "range", min: -reach, max: reach, step: 0.01 }), value = make("output", {});
  input.setAttribute("aria-label", name(l));
  const share = total > 0 ? model.kl[l] / total : 0, bar = make("i", {});
  bar.style.width = `${100 * model.kl[l] / Math.max(...model.kl, 1e-12)}%`;
  const percent = make("small", { textContent: `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`,
    title: `${model.kl[l].toFixed(3)} nats` });
  $("sliders").append(make("div", { className: "slider" }, make("span", { textContent: name(l) }), input, value,
    make("div", { className: "track" }, bar), percent));
  input.addEventListener("input", () => { stop(); z[l] = +input.value; ask(); });
  return { l, input, value };
});

for (const [id, chosen] of [["across", order[0]], ["up", L > 1 ? order[1] : -1]]) {
  for (let l = 0; l < L; l++) $(id).append(make("option", { value: l, textContent: name(l), selected: l === chosen }));
  $(id).addEventListener("change", () => {
    const other = id === "across" ? "up" : "across", before = state[id];
    state[id] = +$(id).value;
    if (state[other] === state[id]) { state[other] = before; $(other).value = before; }
    drawDots();
    ask();
  });
}
if (L === 1) $("up").parentNode.hidden = true;

colours.forEach((by, k) => $("colour").append(make("option", { value: k, textContent: by.text })));
state.colour = colours[0];
$("colour").addEventListener("change", () => {
  state.colour = colours[+$("colour").value];
  legend();
  drawDots();
  ask();
});

$("previous").addEventListener("click", () => { stop(); choose(state.row < 0 ? N - 1 : state.row - 1); });
$("next").addEventListener("click", () => { stop(); choose(state.row + 1); });
$("centre").addEventListener("click", () => { stop(); move(new Float64Array(L)); });
$("draw").addEventListener("click", () => {
  stop();
  move(Array.from({ length: L }, () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random())));
});

const placeOf = new Map(model.rows.map((number, row) => [number, row]));
const ends = ["from", "to"].map((id, k) => {
  const input = $(id);
  input.min = Math.min(...model.rows);
  input.max = Math.max(...model.rows);
  input.value = k ? model.partner : model.rows[0];
  return { input, label: $(`${id}-label`) };
});

function interpolate() {
  const [a, b] = ends.map(({ input, label }) => {
    const row = placeOf.get(+input.value);
    input.setCustomValidity(row === undefined ? "This row is not in the page." : "");
    write(label, row === undefined ? "not in this page" : labelOf(row) || `row ${model.rows[row]}`);
    return row;
  });
  if (a === undefined || b === undefined) return stop();
  const t = +$("way").value, [from, to] = [code(a), code(b)];
  state.row = t === 1 ? b : t === 0 ? a : state.row;
  move(Float64Array.from(from, (value, l) => (t === 1 ? to[l] : value + t * (to[l] - value))));
}

function stop() {
  state.playing = false;
  $("play").setAttribute("aria-pressed", "false");
  write($("play"), "Play");
}

let heading = 1, before = 0;
function advance(now) {
  if (!state.playing) return;
  const t = Math.min(Math.max(+$("way").value + heading * Math.min(now - before, 100) / 2500, 0), 1);
  before = now;
  if (t === 1 || t === 0) heading = t === 1 ? -1 : 1;
  $("way").value = t;
  interpolate();
  requestAnimationFrame(advance);
}

$("play").addEventListener("click", () => {
  if (state.playing) return stop();
  state.playing = true;
  $("play").setAttribute("aria-pressed", "true");
  write($("play"), "Stop");
  heading = +$("way").value === 1 ? -1 : 1;
  before = performance.now();
  requestAnimationFrame(advance);
});
$("way").addEventListener("input", () => { stop(); interpolate(); });
for (const { input } of ends) input.addEventListener("change", () => { stop(); interpolate(); input.reportValidity(); });

new ResizeObserver(() => { drawDots(); ask(); }).observe(map);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawDots(); ask(); });
legend();
drawDots();
choose(0);
interpolate();
window.explorer = { decode, z, state, move, choose };
