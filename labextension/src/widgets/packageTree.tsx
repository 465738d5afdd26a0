import * as React from 'react';
import type { Declared, Package } from '../model/rest';
import { bytes } from '../model/words';
import type { PanelProps } from './panelBody';

const DEEPEST = 12; // levels; packages that need each other would go on for ever

/** A package with its version and its size. */
export function PackageName({ one }: { one: Package }): React.JSX.Element {
  return (
    <div className="jp-TorchOverlay-package">
      <code>
        {one.name} {one.version}
      </code>
      {one.bytes > 0 && <span className="jp-TorchOverlay-hint">{bytes(one.bytes)}</span>}
    </div>
  );
}

/** What came along with the declared packages: below what needs it, drawn as far as it is unfolded. */
export function CameAlong(props: {
  declared: Declared[];
  others: Package[];
  trans: PanelProps['trans'];
}): React.JSX.Element {
  const { declared, others, trans } = props;
  const names = new Set(others.map(one => one.name));
  const known = new Set([...names, ...declared.map(one => one.name)]);
  const needs = new Map<string, Package[]>();
  for (const one of others) {
    for (const who of one.needed_by) {
      needs.set(who, [...(needs.get(who) ?? []), one]);
    }
  }
  const alone = others.filter(one => !one.needed_by.some(who => known.has(who)));
  return (
    <Branch
      summary={trans._n('%1 more came along', '%1 more came along', others.length, others.length)}
    >
      {() => (
        <ul className="jp-TorchOverlay-packages jp-mod-dense">
          {declared
            .filter(one => needs.has(one.name))
            .map(one => (
              <li key={one.name}>
                <Branch summary={<code>{one.name}</code>}>
                  {() => <Needed of={one.name} needs={needs} depth={1} />}
                </Branch>
              </li>
            ))}
          {alone.map(one => (
            <li key={one.name}>
              <PackageName one={one} />
            </li>
          ))}
        </ul>
      )}
    </Branch>
  );
}

function Needed(props: {
  of: string;
  needs: Map<string, Package[]>;
  depth: number;
}): React.JSX.Element {
  const { of, needs, depth } = props;
  return (
    <ul className="jp-TorchOverlay-packages jp-mod-nested">
      {(needs.get(of) ?? []).map(one => (
        <li key={one.name}>
          {needs.has(one.name) && depth < DEEPEST ? (
            <Branch summary={<PackageName one={one} />}>
              {() => <Needed of={one.name} needs={needs} depth={depth + 1} />}
            </Branch>
          ) : (
            <PackageName one={one} />
          )}
        </li>
      ))}
    </ul>
  );
}

/** Something that unfolds; what is in it is drawn only then. */
function Branch(props: {
  summary: React.ReactNode;
  children: () => React.ReactNode;
}): React.JSX.Element {
  const [open, setOpen] = React.useState(false);
  return (
    <details
      className="jp-TorchOverlay-branch"
      onToggle={event => {
        event.stopPropagation();
        setOpen(event.currentTarget.open);
      }}
    >
      <summary>{props.summary}</summary>
      {open && props.children()}
    </details>
  );
}
