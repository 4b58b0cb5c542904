"use strict";
Reveal.initialize({
  width: 1280, height: 720, margin: 0.03, center: false, hash: true, slideNumber: "c/t",
  transition: "none", plugins: [RevealNotes],
});

// A slide that is higher than the screen is read down to the next fragment before that one comes.
function scroll_on() {
  const slide = Reveal.getCurrentSlide(), fragment = slide.querySelector(".fragment:not(.visible)");
  const end = fragment ? fragment.offsetTop : slide.scrollHeight;
  const room = end - slide.scrollTop - slide.clientHeight;
  if (room > 2) slide.scrollBy(0, Math.min(room, 0.8 * slide.clientHeight));
  return room > 2;
}
const next = () => scroll_on() || Reveal.next();
const previous = () => Reveal.prev();
for (const [keyCode, key, step] of [[32, "SPACE", next], [34, "PAGE DOWN", next], [33, "PAGE UP", previous]])
  Reveal.addKeyBinding({keyCode, key, description: `${step.name} slide or fragment`},
    event => (event?.shiftKey ? previous : step)());
Reveal.on("fragmentshown", event => event.fragment.scrollIntoView({block: "nearest"}));
