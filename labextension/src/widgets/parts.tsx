import type { TranslationBundle } from '@jupyterlab/translation';
import * as React from 'react';
import type { Failure } from '../model/rest';
import { ApiError } from '../server/api';
import { Ring } from './chip';

/** A part of the panel that folds; `onOpen` is called each time it is opened. */
export function Section(props: {
  title: string;
  hint?: string | undefined;
  open?: boolean;
  onOpen?: () => void;
  children: React.ReactNode;
}): React.JSX.Element {
  const { title, hint, open, onOpen, children } = props;
  return (
    <details
      className="jp-TorchOverlay-section"
      open={open}
      onToggle={event => {
        if (event.currentTarget.open) {
          onOpen?.();
        }
      }}
    >
      <summary>
        <h3>{title}</h3>
        {hint && <span className="jp-TorchOverlay-hint">{hint}</span>}
      </summary>
      <div className="jp-TorchOverlay-body">{children}</div>
    </details>
  );
}

type Look = 'plain' | 'main' | 'danger' | 'link';

/** A button that says what it does; `title` says more. */
export function Press(props: {
  children: React.ReactNode;
  onClick: () => void;
  look?: Look;
  disabled?: boolean;
  title?: string;
  label?: string;
}): React.JSX.Element {
  const { look = 'plain', children, label, ...rest } = props;
  return (
    <button
      type="button"
      className={`jp-TorchOverlay-button jp-mod-${look}`}
      aria-label={label}
      {...rest}
    >
      {children}
    </button>
  );
}

/** Something is being done, with a way to stop it where there is one. */
export function Busy(props: {
  text: string;
  fraction?: number | null;
  trans: TranslationBundle;
  onCancel?: () => void;
}): React.JSX.Element {
  return (
    <div className="jp-TorchOverlay-busy" role="status">
      <Ring fraction={props.fraction ?? null} />
      <span>{props.text}</span>
      {props.onCancel && (
        <Press look="link" onClick={props.onCancel}>
          {props.trans.__('Cancel')}
        </Press>
      )}
    </div>
  );
}

/** An error with its cause, and what to press below it. */
export function Problem(props: {
  failure: Failure;
  trans: TranslationBundle;
  children?: React.ReactNode;
}): React.JSX.Element {
  const { failure, trans, children } = props;
  return (
    <div className="jp-TorchOverlay-problem" role="alert">
      <strong>{failure.what}</strong>
      {failure.why && <pre tabIndex={0}>{failure.why}</pre>}
      {children && <div className="jp-TorchOverlay-buttons">{children}</div>}
      {failure.fix && (
        <details>
          <summary>{trans.__('In a terminal')}</summary>
          <pre tabIndex={0}>{failure.fix}</pre>
        </details>
      )}
    </div>
  );
}

/** Any error as one that can be shown. */
export function failureOf(error: unknown): Failure {
  if (error instanceof ApiError && error.failure) {
    return error.failure;
  }
  const what = error instanceof Error ? error.message : String(error);
  return { error: 'Error', what, why: '', fix: '' };
}

/** What a component has asked for: nothing yet, on its way, there, or refused. */
export interface Asked<T, A extends unknown[] = []> {
  value: T | null;
  failure: Failure | null;
  busy: boolean;
  ask: (...about: A) => void;
}

/** Ask for something when told to; an answer that comes after the component has gone is dropped. */
export function useAsked<T, A extends unknown[] = []>(
  question: (...about: A) => Promise<T>
): Asked<T, A> {
  const [state, setState] = React.useState<Omit<Asked<T>, 'ask'>>({
    value: null,
    failure: null,
    busy: false
  });
  const there = React.useRef(true);
  React.useEffect(() => {
    there.current = true;
    return () => {
      there.current = false;
    };
  }, []);
  const set = (next: Partial<Omit<Asked<T>, 'ask'>>) => {
    if (there.current) {
      setState(before => ({ ...before, ...next }));
    }
  };
  const ask = (...about: A) => {
    set({ busy: true });
    question(...about).then(
      value => set({ value, failure: null, busy: false }),
      (error: unknown) => set({ failure: failureOf(error), busy: false })
    );
  };
  return { ...state, ask };
}
