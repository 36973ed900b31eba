"use strict";
// A map of tracks and lists of neighbours with players. All data lie in the page, as gzipped JSON.
(async () => {
const $ = (id) => document.getElementById(id);
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const array = (text, Kind) => new Kind(bytes(text).buffer);
const packed = new Blob([bytes($("data").textContent)]).stream();
const data = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).json();

const seconds = array(data.seconds, Float32Array), typical = array(data.from, Float32Array);
const count = data.paths.length, silent = new Set(data.silent);
const colours = data.colours.map((one) => ({...one, codes: array(one.codes, Int16Array), hidden: new Set()}));
const scale = (one) => ({...one, similarity: array(one.similarity, Int16Array), share: array(one.share, Int16Array)});
const models = data.models.map((one) => ({
  ...one, ids: array(one.ids, Int32Array), at: one.at && array(one.at, Float32Array), all: scale(one.all),
  branches: one.branches.map(scale), place: new Map([...array(one.of, Int32Array)].map((track, i) => [track, i])),
}));

// ---- names

const text = (name) => name.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (c) => `\\u${c.codePointAt(0).toString(16)}`);
const tags = (track) => [data.artist[track], data.title[track]].filter(Boolean).join(" – ");
const file = (track) => data.paths[track].split("/").pop();
const title = (track) => text(tags(track) || file(track));
const short = (name) => (name.length > 24 ? `${name.slice(0, 23)}…` : name);
const clock = (at) => `${Math.floor(at / 60)}:${String(Math.floor(at % 60)).padStart(2, "0")}`;
const join = (folder, path) => (folder === "." || folder === "" ? path : `${folder}/${path}`);
function link(track) {
  if (track in data.elsewhere) return data.elsewhere[track];
  return join(data.base, data.paths[track].split("/").map(encodeURIComponent).join("/"));
}
const say = (sentence) => { $("status").textContent = sentence; };

function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made) made[name] = value; else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

// ---- the player

const audio = $("audio");
let playing = -1, wanted = 0;

async function play(track, from = typical[track]) {
  if (silent.has(track)) { say(`${title(track)}: has no audio where it should be`); return; }
  playing = track;
  wanted = from;
  audio.src = link(track);
  audio.currentTime = from;
  $("playing").textContent = title(track);
  $("toggle").disabled = $("seek").disabled = false;
  say(`Playing ${title(track)} from ${clock(from)}`);
  marked();
  await start();
}

async function start() {
  try {
    await audio.play();
  } catch (error) {
    if (error.name !== "AbortError") say(`${title(playing)}: cannot be played here (${error.name})`);
  }
}

// Servers without ranges, such as Python's, let nobody begin in the middle: then the whole file is fetched.
audio.addEventListener("loadedmetadata", async () => {
  const within = audio.seekable.length ? audio.seekable.end(audio.seekable.length - 1) : 0;
  if (wanted < 0.5 || within >= Math.min(wanted, audio.duration - 0.1) || !audio.src.startsWith("http")) return;
  const track = playing, source = audio.src;
  audio.removeAttribute("src"); // a player that waits with the file half read keeps Chromium from fetching it
  audio.load();
  try {
    const answer = await fetch(source);
    const whole = URL.createObjectURL(await answer.blob());
    if (track !== playing) return;
    audio.src = whole;
    audio.currentTime = wanted;
  } catch {
    if (track !== playing) return;
    wanted = 0;
    audio.src = source;
    say(`${title(track)}: the server gives no parts of files, so it plays from the beginning`);
  }
  await start();
});
audio.addEventListener("error", () => {
  if (playing >= 0) say(`${title(playing)}: this browser cannot play it, or it is not at ${link(playing)}`);
});
audio.addEventListener("timeupdate", () => {
  const length = audio.duration || 0;
  $("seek").max = length || 1;
  $("seek").value = audio.currentTime;
  $("seek").setAttribute("aria-valuetext", `${clock(audio.currentTime)} of ${clock(length)}`);
  $("clock").textContent = `${clock(audio.currentTime)} / ${clock(length)}`;
});
for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, marked);
$("seek").addEventListener("input", () => { audio.currentTime = Number($("seek").value); });
$("toggle").addEventListener("click", toggle);

function toggle() {
  if (playing < 0) return;
  if (audio.paused) start(); else audio.pause();
}

function marked() {
  $("toggle").textContent = audio.paused ? "Play" : "Pause";
  for (const row of document.querySelectorAll(".tracks li")) {
    const on = Number(row.dataset.track) === playing && !audio.paused;
    row.classList.toggle("playing", on);
    row.querySelector(".play").textContent = on ? "■" : "▶";
  }
  draw();
}

// ---- rows of tracks

const percent = (share) => (share / 10).toFixed(1);  // of pairs, as kerasrep-search writes it

function row(track, more = [], from = typical[track], kind = "") {
  const name = title(track), listed = list.has(track);
  const button = (label, sign, act, kindOf = "") => element("button",
    {type: "button", className: kindOf, "aria-label": label, title: label, onclick: act}, sign);
  const start_ = button(`Play ${name} from ${clock(from)}`, "▶", () => {
    if (playing === track && !audio.paused) audio.pause(); else play(track, from);
  }, "play");
  start_.disabled = silent.has(track);
  const length = Number.isNaN(seconds[track]) ? "" : ` · ${clock(seconds[track])}`;
  const actions = element("div", {className: "actions"},
    button(`Neighbours of ${name}`, "≈", () => choose(track), "near"),
    button(listed ? `Take ${name} from the list` : `Add ${name} to the list`, listed ? "−" : "+",
      () => keep(track), "keep"));
  const shown = element("div", {className: "name"}, name, element("small", {}, text(data.paths[track]) + length));
  const made = element("li", {className: kind}, start_, shown, actions);
  made.dataset.track = track;
  if (more.length) made.append(element("div", {className: "more"}, ...more));
  return made;
}

function neighbours(model, track) {
  const place = model.place.get(track);
  if (place === undefined) return null;
  const found = [];
  for (let rank = 0; rank < model.most; rank++) {
    const at = place * model.most + rank;
    if (model.ids[at] < 0) continue;
    found.push({track: model.ids[at], similarity: model.all.similarity[at] / 1e4, share: model.all.share[at],
      from: model.at ? model.at[at] : undefined,
      branches: model.branches.map((one) => [one.name, one.share[at]]).filter(([, share]) => share >= 0)});
  }
  return found;
}

function details(one, rank, model, others) {
  const similarity = `similarity ${one.similarity.toFixed(4)}`, more = [`${rank}.`];
  if (one.share >= 0) {
    const bar = element("span", {className: "bar", "aria-hidden": "true"}, element("span"));
    bar.firstChild.style.width = `${one.share / 10}%`;
    more.push(bar, element("span", {title: similarity}, `nearer than ${percent(one.share)}% of pairs`));
  } else {
    more.push(element("span", {}, similarity));
  }
  if (one.branches.length) {
    const best = Math.max(...one.branches.map(([, value]) => value));
    for (const [name, value] of one.branches) {
      more.push(element(value === best ? "b" : "span", {}, `${name} ${percent(value)}%`));
    }
  }
  if (one.from !== undefined) more.push(element("span", {}, `best match at ${clock(one.from)}`));
  for (const [name, found] of others) {
    const rank = found ? found.findIndex((other) => other.track === one.track) + 1 : 0;
    more.push(element("span", {}, rank ? `${rank}. in ${name}` : `not among the first of ${name}`));
  }
  return more;
}

// ---- neighbours

let asked = [...new Set(data.queries)];

function choose(track) {
  asked = [track];
  showNear();
  draw();
  $("near").querySelector(".play")?.focus({preventScroll: true});
}

function showNear() {
  if (!asked.length) return;
  const blocks = [];
  for (const track of asked) {
    const found = models.map((model) => neighbours(model, track));
    models.forEach((model, which) => {
      const rows = element("ol", {className: "tracks", "aria-label": `Near ${title(track)}`});
      rows.dataset.model = which;
      rows.append(row(track, [], typical[track], "asked"));
      const others = models.map((other, i) => [text(other.name), found[i]]).filter((_, i) => i !== which);
      for (const [place, one] of (found[which] ?? []).entries()) {
        rows.append(row(one.track, details(one, place + 1, model, others), one.from));
      }
      const block = element("div", {}, rows);
      if (models.length > 1) block.prepend(element("h3", {}, `${"AB"[which]}: ${text(model.name)}`));
      if (!found[which]) {
        block.append(element("p", {className: "quiet"},
          "Its neighbours are not in this page: search for it with kerasrep-search."));
      }
      blocks.push(block);
    });
  }
  if (data.queries.length && String(asked) !== String([...new Set(data.queries)])) {
    blocks.push(element("button", {type: "button", onclick: () => {
      asked = [...new Set(data.queries)];
      showNear();
      draw();
    }}, "Back to the queries"));
  }
  $("near").className = models.length > 1 ? "two" : "";
  $("near").replaceChildren(...blocks);
  $("near-title").textContent = asked.length === 1 ? `Near ${title(asked[0])}` : "Near the queries";
  marked();
}

// ---- the list

const SHOWN = 200;
let list = new Set(), listTitle = "";

function setList(tracks, sentence) {
  list = new Set(tracks);
  listTitle = sentence;
  showList();
  if (sentence) say(sentence);
}

function keep(track) {
  if (!list.delete(track)) list.add(track);
  listTitle = "";
  const focused = document.activeElement?.closest?.("li")?.dataset.track, inList = $("list").contains(document.activeElement);
  showList();
  showNear();
  const again = document.querySelector(`${inList ? "#list" : "#near"} li[data-track="${focused}"] .keep`);
  (again ?? $("clear")).focus({preventScroll: true});
}

function showList() {
  const tracks = [...list];
  $("list-title").textContent = `List: ${tracks.length.toLocaleString("en")} ${tracks.length === 1 ? "track" : "tracks"}`;
  $("list").replaceChildren(...tracks.slice(0, SHOWN).map((track) => row(track)));
  if (tracks.length > SHOWN) {
    const rest = (tracks.length - SHOWN).toLocaleString("en");
    $("list").append(element("li", {className: "quiet rest"}, element("span", {className: "play", hidden: true}),
      `and ${rest} more; all of them are saved`));
  }
  for (const id of ["save-m3u8", "save-csv", "clear"]) $(id).disabled = !tracks.length;
  marked();
}

function save(name, kind, content) {
  const address = URL.createObjectURL(new Blob([content], {type: `${kind};charset=utf-8`}));
  element("a", {href: address, download: name}).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
  say(`Saved ${list.size} tracks as ${name}`);
}
function place(track) {
  if (/^https?:/.test(data.base) || track in data.elsewhere) return new URL(link(track), location.href).href;
  return join(data.root === "/" ? "" : data.root, data.paths[track]);
}
$("save-m3u8").addEventListener("click", () => {
  const lines = [...list].flatMap((track) => {
    const length = Number.isNaN(seconds[track]) ? -1 : Math.round(seconds[track]);
    return [`#EXTINF:${length},${title(track)}`, place(track)];
  });
  save("tracks.m3u8", "audio/x-mpegurl", ["#EXTM3U", ...lines, ""].join("\n"));
});
$("save-csv").addEventListener("click", () => {
  const quoted = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const rows = [...list].map((track) => [data.paths[track], data.artist[track], data.title[track],
    ...colours.map((one) => (one.codes[track] >= 0 ? one.values[one.codes[track]] : ""))]);
  const header = ["path", "tag_artist", "tag_title", ...colours.map((one) => one.name)];
  save("tracks.csv", "text/csv", [header, ...rows].map((cells) => cells.map(quoted).join(",") + "\r\n").join(""));
});
$("clear").addEventListener("click", () => { $("search").value = ""; setList([], "The list is empty"); });

// ---- the map

const canvas = $("map"), context = canvas.getContext("2d", {alpha: false});
const X = array(data.map.x, Uint16Array), Y = array(data.map.y, Uint16Array);
const PALETTE = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00"];
const RAMP = [[0, 88, 168], [143, 143, 143], [217, 127, 0]];
let view = {k: 1, x: 0, y: 0}, width = 0, height = 0, pixels = null, image = null;
let colouring = colours[0] ?? null, lassoing = false, path = null, hovered = -1, pending = false;

function shade(of, code) {
  if (!of) return PALETTE[0];
  if (code < 0) return "#8a8a8a";
  if (of.ordered) {
    const at = 2 * code / Math.max(1, of.values.length - 1), low = Math.min(1, Math.floor(at));
    return `rgb(${RAMP[low].map((c, i) => Math.round(c + (RAMP[low + 1][i] - c) * (at - low))).join(" ")})`;
  }
  if (/^other \(\d+\)$/.test(of.values[code])) return "#6f6f6f";
  return PALETTE[code] ?? `hsl(${(code * 137.5) % 360} 55% 50%)`;
}
const visible = (track) => track >= data.n || !colouring || !colouring.hidden.has(colouring.codes[track]);

const probe = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
function packedColour(css) {  // as a pixel in memory, on the little-endian machines that browsers run on
  probe.fillStyle = css;
  probe.fillRect(0, 0, 1, 1);
  return new Uint32Array(probe.getImageData(0, 0, 1, 1).data.buffer)[0];
}
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function disc(radius) {  // offsets of a point's pixels, and how much each is covered, of 256
  const reach = Math.ceil(radius), found = [];
  for (let dy = -reach; dy <= reach; dy++) {
    for (let dx = -reach; dx <= reach; dx++) {
      const covered = Math.round(256 * Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(dx, dy))));
      if (covered > 20) found.push([dx, dy, covered]);
    }
  }
  return found;
}
function mix(under, over, share) {
  const rest = 256 - share;
  const odd = (((over & 0xff00ff) * share + (under & 0xff00ff) * rest) >>> 8) & 0xff00ff;
  const even = (((over >>> 8) & 0xff) * share + ((under >>> 8) & 0xff) * rest) & 0xff00;
  return (0xff000000 | odd | even) >>> 0;
}

function stamp(points, shades, radius) {
  const shape = disc(radius), reach = Math.ceil(radius) + 1;
  const offsets = Int32Array.from(shape, ([dx, dy]) => dy * width + dx);
  const cover = Int32Array.from(shape, ([, , share]) => share), size = offsets.length;
  const {k, x: ox, y: oy} = view, right = width - reach, bottom = height - reach;
  for (const track of points) {
    const x = Math.round(ox + X[track] * k), y = Math.round(oy + Y[track] * k);
    if (x < reach || y < reach || x >= right || y >= bottom) continue;
    const at = y * width + x, colour = shades(track);
    for (let i = 0; i < size; i++) {
      const to = at + offsets[i];
      pixels[to] = cover[i] > 250 ? colour : mix(pixels[to], colour, cover[i]);
    }
  }
}

function radius() {
  const base = count > 50_000 ? 1.2 : count > 5_000 ? 1.8 : count > 1_000 ? 2.8 : 4;
  return base * devicePixelRatio * Math.min(3, Math.max(1, Math.sqrt(view.k / whole().k) * 0.9));
}

let order = null, shadesOf = null;
function prepare() {  // what changes with colours, legend, list and theme, but not with every frame
  const table = new Map(), dim = packedColour(style("--line")), codes = colouring?.codes;
  const lit = listTitle && list.size ? list : null;
  const colourOf = (code) => {
    if (!table.has(code)) table.set(code, packedColour(shade(colouring, code)));
    return table.get(code);
  };
  const shown = [];
  for (let track = 0; track < data.n; track++) if (visible(track)) shown.push(track);
  shadesOf = new Uint32Array(count);
  for (const track of shown) shadesOf[track] = lit && !lit.has(track) ? dim : colourOf(codes ? codes[track] : 0);
  order = lit ? [...shown.filter((one) => !lit.has(one)), ...shown.filter((one) => lit.has(one))] : shown;
  order = Uint32Array.from(order);
}

function draw(again = true) {
  if (again) order = null;
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => { pending = false; paint(); });
}

function paint() {
  if (!width) return;
  if (!order) prepare();
  pixels.fill(packedPaper);
  stamp(order, (track) => shadesOf[track], radius());
  context.putImageData(image, 0, 0);
  const ring = (track, label, size) => {
    const x = view.x + X[track] * view.k, y = view.y + Y[track] * view.k, r = size * devicePixelRatio;
    context.beginPath();
    context.arc(x, y, r, 0, 7);
    context.lineWidth = 2 * devicePixelRatio;
    context.strokeStyle = style("--ink");
    context.stroke();
    if (!label) return;
    context.font = `bold ${12 * devicePixelRatio}px system-ui, sans-serif`;
    context.lineWidth = 3 * devicePixelRatio;
    context.strokeStyle = style("--paper");
    if (x < 0 || y < 0 || x > width || y > height) return;
    const room = width - context.measureText(label).width - 4 * devicePixelRatio;
    const left = Math.max(2 * devicePixelRatio, Math.min(x + r + 2, room));
    const base = Math.max(y - r, 13 * devicePixelRatio);
    context.strokeText(label, left, base);
    context.fillStyle = style("--ink");
    context.fillText(label, left, base);
  };
  for (const track of asked) {
    for (const [rank, one] of (neighbours(models[0], track) ?? []).entries()) ring(one.track, String(rank + 1), 6);
    ring(track, asked.length > 1 ? short(title(track)) : "", 10);
  }
  if (playing >= 0 && !audio.paused) ring(playing, "♪", 8);
  if (hovered >= 0) ring(hovered, "", 7);
  if (path) {
    context.beginPath();
    path.forEach(([x, y], i) => (i ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.lineWidth = 2 * devicePixelRatio;
    context.strokeStyle = style("--accent");
    context.stroke();
  }
  frames += 1;
}
let frames = 0, packedPaper = 0;

function whole() {
  let right = 1, bottom = 1;
  if (!whole.size) {
    for (let i = 0; i < count; i++) { right = Math.max(right, X[i]); bottom = Math.max(bottom, Y[i]); }
    whole.size = [right, bottom];
  }
  [right, bottom] = whole.size;
  const k = 0.92 * Math.min(width / right, height / bottom);
  return {k, x: (width - right * k) / 2, y: (height - bottom * k) / 2};
}

function resize() {
  const box = $("canvas-box"), before = whole.at;
  const w = Math.round(box.clientWidth * devicePixelRatio), h = Math.round(box.clientHeight * devicePixelRatio);
  packedPaper = packedColour(style("--paper"));
  if (!w || !h) return;
  if (w !== width || h !== height) {
    [canvas.width, canvas.height, width, height] = [w, h, w, h];
    image = context.createImageData(w, h);
    pixels = new Uint32Array(image.data.buffer);
    if (!before || !touched) view = whole();
  }
  whole.at = true;
  draw();
}
let touched = false;

function zoom(factor, x = width / 2, y = height / 2) {
  const k = Math.min(Math.max(view.k * factor, whole().k / 4), whole().k * 400), f = k / view.k;
  view = {k, x: x - (x - view.x) * f, y: y - (y - view.y) * f};
  touched = true;
  draw(false);
}
function pan(dx, dy) { view.x += dx; view.y += dy; touched = true; draw(false); }
function showWhole() { view = whole(); touched = false; draw(false); }

function nearest(x, y, reach) {
  let best = reach * reach, found = -1;
  for (let track = 0; track < count; track++) {
    const dx = view.x + X[track] * view.k - x, dy = view.y + Y[track] * view.k - y, away = dx * dx + dy * dy;
    if (away < best && visible(track)) { best = away; found = track; }
  }
  return found;
}

function inside(loop) {
  const found = [];
  for (let track = 0; track < data.n; track++) {
    if (!visible(track)) continue;
    const x = view.x + X[track] * view.k, y = view.y + Y[track] * view.k;
    let within = false;
    for (let i = 0, j = loop.length - 1; i < loop.length; j = i++) {
      const [xi, yi] = loop[i], [xj, yj] = loop[j];
      if ((yi > y) !== (yj > y) && x < (xj - xi) * (y - yi) / (yj - yi) + xi) within = !within;
    }
    if (within) found.push(track);
  }
  return found;
}

function setLasso(on) {
  lassoing = on;
  path = null;
  $("lasso").setAttribute("aria-pressed", on);
  canvas.classList.toggle("lasso", on);
  draw(false);
}

function hover(x, y) {
  const found = x === null ? -1 : nearest(x, y, 12 * devicePixelRatio), tip = $("tip");
  if (found !== hovered) { hovered = found; draw(false); }
  tip.hidden = found < 0;
  if (found < 0) return;
  const lines = [element("b", {}, title(found)), element("br"), text(data.paths[found])];
  for (const one of colours) {
    if (found < data.n && one.codes[found] >= 0) lines.push(element("br"), `${one.name}: ${text(one.values[one.codes[found]])}`);
  }
  tip.replaceChildren(...lines);
  const left = x / devicePixelRatio, top = y / devicePixelRatio, box = $("canvas-box");
  tip.style.left = `${Math.max(0, Math.min(left + 12, box.clientWidth - tip.offsetWidth - 4))}px`;
  tip.style.top = `${top + 18 + tip.offsetHeight > box.clientHeight ? Math.max(0, top - tip.offsetHeight - 8) : top + 18}px`;
}

const pointers = new Map();
let moved = 0, spread = 0;
const spot = (event) => {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) * devicePixelRatio, (event.clientY - box.top) * devicePixelRatio];
};
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pointers.set(event.pointerId, spot(event));
  moved = spread = 0;
  path = lassoing && pointers.size === 1 ? [spot(event)] : null;
});
canvas.addEventListener("pointermove", (event) => {
  const [x, y] = spot(event), before = pointers.get(event.pointerId);
  if (!before) { hover(x, y); return; }
  pointers.set(event.pointerId, [x, y]);
  moved += Math.hypot(x - before[0], y - before[1]);
  if (pointers.size === 2) {
    const [[ax, ay], [bx, by]] = [...pointers.values()], now = Math.hypot(ax - bx, ay - by);
    if (spread) zoom(now / spread, (ax + bx) / 2, (ay + by) / 2);
    spread = now;
    path = null;
  } else if (path) {
    path.push([x, y]);
    draw(false);
  } else if (pointers.size === 1) {
    hover(null);
    pan(x - before[0], y - before[1]);
  }
});
const release = (event) => {
  const [x, y] = spot(event), loop = path;
  if (!pointers.delete(event.pointerId)) return;
  path = null;
  if (event.type === "pointercancel") return;
  if (moved < 6 * devicePixelRatio && !pointers.size) {
    const found = nearest(x, y, (event.pointerType === "mouse" ? 12 : 24) * devicePixelRatio);
    if (found >= 0) { asked = [found]; showNear(); play(found); }
  } else if (loop && loop.length > 2) {
    const found = inside(loop);
    setLasso(false);
    setList(found, `${found.length.toLocaleString("en")} tracks inside the lasso`);
  }
  draw(false);
};
canvas.addEventListener("pointerup", release);
canvas.addEventListener("pointercancel", release);
canvas.addEventListener("pointerleave", () => hover(null));
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY / (event.deltaMode ? 20 : 400)), ...spot(event));
}, {passive: false});
canvas.addEventListener("keydown", (event) => {
  const step = 40 * devicePixelRatio;
  const acts = {ArrowLeft: () => pan(step, 0), ArrowRight: () => pan(-step, 0), ArrowUp: () => pan(0, step),
    ArrowDown: () => pan(0, -step), "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4),
    0: showWhole, Enter: () => {
      const found = nearest(width / 2, height / 2, Infinity);
      if (found >= 0) { asked = [found]; showNear(); play(found); }
    }};
  if (!acts[event.key] || event.ctrlKey || event.metaKey) return;
  acts[event.key]();
  event.preventDefault();
  event.stopPropagation();
});
$("closer").addEventListener("click", () => zoom(1.4));
$("farther").addEventListener("click", () => zoom(1 / 1.4));
$("whole").addEventListener("click", showWhole);
$("lasso").addEventListener("click", () => setLasso(!lassoing));
new ResizeObserver(resize).observe($("canvas-box"));
for (const query of ["(prefers-color-scheme: dark)", "print"]) matchMedia(query).addEventListener("change", resize);

// ---- colours and their legend

function showLegend() {
  const counts = new Map();
  for (const code of colouring?.codes ?? []) counts.set(code, (counts.get(code) ?? 0) + 1);
  const codes = [...(colouring?.values.keys() ?? []), ...(counts.has(-1) ? [-1] : [])];
  $("legend").replaceChildren(...codes.map((code) => {
    const sign = element("i", {"aria-hidden": "true"}), name = code < 0 ? "no label" : text(colouring.values[code]);
    sign.style.background = shade(colouring, code);
    const button = element("button", {type: "button", "aria-pressed": !colouring.hidden.has(code)}, sign,
      `${name} (${(counts.get(code) ?? 0).toLocaleString("en")})`);
    button.addEventListener("click", () => {
      if (!colouring.hidden.delete(code)) colouring.hidden.add(code);
      button.setAttribute("aria-pressed", !colouring.hidden.has(code));
      if ($("search").value) find(); else draw();
    });
    return element("li", {}, button);
  }));
}
$("colour").append(...colours.map((one, i) => element("option", {value: i}, one.name)));
$("colour").parentElement.hidden = !colours.length;
$("colour").addEventListener("change", () => {
  colouring = colours[Number($("colour").value)];
  showLegend();
  draw();
});

// ---- search

let haystack = null;
function find() {
  const sought = $("search").value.trim().toLowerCase();
  if (!sought) { setList([], ""); say(""); return; }
  haystack ??= data.paths.map((one, track) => [one, data.artist[track], data.title[track],
    ...colours.map((of) => of.values[of.codes[track]] ?? "")].join("\n").toLowerCase());
  const found = [];
  for (let track = 0; track < count; track++) {
    if (haystack[track].includes(sought) && visible(track)) found.push(track);
  }
  setList(found, `${found.length.toLocaleString("en")} tracks match “${sought}”`);
}
$("search").addEventListener("input", find);

// ---- keys

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target, typing = target.matches("input[type=search], select, input[type=range]");
  const current = target.closest?.(".tracks li");
  const acts = {
    "/": () => $("search").focus(),
    " ": () => (target.matches("button, summary") ? false : toggle()),
    ArrowDown: () => step(1), ArrowUp: () => step(-1),
    ArrowLeft: () => { audio.currentTime -= 5; }, ArrowRight: () => { audio.currentTime += 5; },
    n: () => current && choose(Number(current.dataset.track)),
    l: () => current && keep(Number(current.dataset.track)),
    b: () => current && other(current),
  };
  if (event.key === "Escape") { setLasso(false); audio.pause(); return; }
  if (typing || target === canvas || !acts[event.key]) return;
  if (acts[event.key]() !== false) event.preventDefault();
});

function step(by) {
  const all = [...document.querySelectorAll(".tracks .play:not(:disabled)")].filter((one) => !one.hidden);
  const now = all.findIndex((one) => one.closest("li").contains(document.activeElement));
  all[Math.min(all.length - 1, Math.max(0, now + by))]?.focus();
}

function other(current) {  // A/B: what stands at the same place of the other model's list
  const lists = [...$("near").querySelectorAll("ol")], mine = lists.indexOf(current.parentElement);
  if (models.length < 2 || mine < 0) return;
  const rows = lists[mine ^ 1].children, button = rows[[...current.parentElement.children].indexOf(current)]?.querySelector(".play");
  if (!button) return;
  button.focus();
  if (!audio.paused) button.click();
}

showLegend();
showList();
showNear();
say(data.n === 1 ? "1 track" : `${data.n.toLocaleString("en")} tracks`);
document.documentElement.dataset.ready = "yes";
window.listening = {frames: () => frames, play, setList};
})();
