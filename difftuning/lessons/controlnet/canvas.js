// A square of grey pixels to draw on.  The kernel gets all of them at the end of each stroke.
const HELP = "Draw with mouse, pen or finger. Keys: arrows move, Space draws, Shift and arrows draw a line.";
const WIDTHS = { thin: 0, thick: 1 }; // pixels on each side of the middle
const MOVES = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] };

function add(parent, tag, properties = {}) {
  return parent.appendChild(Object.assign(document.createElement(tag), properties));
}

// Buttons of which one is down; `choose` is told its value.
function choice(parent, label, options, start, choose) {
  const group = add(parent, "div", { className: "group", role: "group", ariaLabel: label });
  const press = (name) => {
    for (const each of group.children) each.ariaPressed = String(each.textContent === name);
    choose(options[name]);
  };
  for (const name of Object.keys(options)) add(group, "button", { type: "button", textContent: name, onclick: () => press(name) });
  press(start);
}

function render({ model, el }) {
  let pixels = model.get("pixels").slice();
  const side = Math.sqrt(pixels.length);
  let shade, reach, last = null; // the stroke's last point
  let key = { x: side / 2, y: side / 2 }; // where the keys' cursor is

  el.classList.add("difftuning-canvas");
  el.dataset.lmSuppressShortcuts = "true"; // JupyterLab's own keys, in here
  const tools = add(el, "div", { className: "tools" });
  choice(tools, "shade", model.get("brushes"), "bright", (value) => { shade = value; });
  choice(tools, "brush", WIDTHS, "thick", (value) => { reach = value; });
  const clear = add(tools, "button", { type: "button", textContent: "clear" });
  const sheet = add(el, "div", { className: "sheet" });
  const surface = add(sheet, "canvas", { width: side, height: side, tabIndex: 0, role: "application" });
  surface.ariaLabel = `Drawing of ${side} by ${side} pixels. ${HELP}`;
  const cursor = add(sheet, "div", { className: "cursor", hidden: true });
  const said = add(el, "p", { ariaLive: "polite", textContent: HELP });
  const context = surface.getContext("2d");

  function show() {
    const image = context.createImageData(side, side);
    pixels.forEach((value, i) => image.data.set([value, value, value, 255], 4 * i));
    context.putImageData(image, 0, 0);
  }

  function keep() {
    model.set("pixels", pixels.slice()); // a copy, so that the change is seen
    model.save_changes();
  }

  function line(from, to) {
    const steps = Math.max(1, Math.abs(to.x - from.x), Math.abs(to.y - from.y));
    for (let i = 0; i <= steps; i++) {
      const x = Math.round(from.x + (i / steps) * (to.x - from.x)), y = Math.round(from.y + (i / steps) * (to.y - from.y));
      for (let row = Math.max(0, y - reach); row <= Math.min(side - 1, y + reach); row++)
        for (let column = Math.max(0, x - reach); column <= Math.min(side - 1, x + reach); column++) pixels[row * side + column] = shade;
    }
    show();
  }

  function at(event) {
    const box = surface.getBoundingClientRect();
    return { x: Math.floor(((event.clientX - box.left) / box.width) * side), y: Math.floor(((event.clientY - box.top) / box.height) * side) };
  }

  surface.onpointerdown = (event) => {
    if (event.button || !event.isPrimary) return;
    surface.setPointerCapture(event.pointerId);
    cursor.hidden = true;
    key = last = at(event);
    line(last, last);
  };
  surface.onpointermove = (event) => {
    if (last && event.isPrimary) line(last, (key = last = at(event)));
  };
  surface.onlostpointercapture = () => { // the pointer is up, or was taken away
    last = null;
    keep();
  };
  surface.onkeydown = (event) => {
    const move = MOVES[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    const inside = (place) => Math.min(side - 1, Math.max(0, place));
    const from = key;
    key = { x: inside(from.x + move[0]), y: inside(from.y + move[1]) };
    if (event.key === " " || event.shiftKey) {
      line(from, key);
      keep();
    }
    cursor.hidden = false;
    Object.assign(cursor.style, { left: `${(100 * key.x) / side}%`, top: `${(100 * key.y) / side}%` });
    said.textContent = `Column ${key.x + 1}, row ${key.y + 1}: ${Math.round(pixels[key.y * side + key.x] / 2.55)} % bright.`;
  };
  surface.onblur = () => { cursor.hidden = true; };
  clear.onclick = () => {
    pixels.fill(0);
    show();
    keep();
  };

  function follow() { // the kernel, or another view of the same drawing, has changed it
    pixels = model.get("pixels").slice();
    show();
  }
  model.on("change:pixels", follow);
  show();
  return () => model.off("change:pixels", follow);
}

export default { render };
