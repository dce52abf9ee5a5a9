// Each explorer: its controls choose one of the frames that stand in the page; nothing is drawn here.
for (const box of document.querySelectorAll(".explorer")) {
  const given = JSON.parse(box.querySelector("script").textContent);
  const image = box.querySelector("img");
  const elements = [...box.querySelectorAll("input, select")];
  // a control of one value has no element
  const controls = given.controls.map((control) => ({ ...control, place: control.start }));
  controls.filter((control) => control.values.length > 1).forEach((control, number) => (control.element = elements[number]));

  const frame = () => given.frames[controls.map((control) => control.place).join()];
  const show = () => {
    for (const { element, place, values } of controls.filter((control) => control.element)) {
      element.value = place;
      if (element.type !== "range") continue;
      element.setAttribute("aria-valuetext", values[place]);
      element.nextElementSibling.value = values[place];
    }
    const setting = controls.map(({ name, place, values }) => `${name} = ${values[place]}`).join(", ");
    image.src = given.pictures[frame()];
    image.alt = `${setting}. ${given.descriptions[frame()]}`;
  };
  const move = (moved) => {
    moved.place = Number(moved.element.value);
    // not every combination may be there; one control away from the start always is
    if (frame() === undefined) {
      for (const control of controls) if (control !== moved) control.place = control.start;
    }
    show();
  };
  for (const control of controls) control.element?.addEventListener("input", () => move(control));
  show();
  box.querySelector(".controls").hidden = false;
}
